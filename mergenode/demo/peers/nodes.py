"""The directories and processes of the demo's nodes, and the wires between them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from mergenode.demo.node import NodeProcess
from mergenode.demo.peers.relay import Relay

START_SECONDS = 180.0
"""Five nodes start at once, on a machine that may be busy."""

RING = """\
# One of the nodes of `mergenode demo --peers`. `mergenode run -c node.yaml` starts it again.
node: {{name: {name}, state: ./state}}
base: ../base                    # the same on every node: names and shapes of the network
registries: []
publish: {{path: ./published, keep: 2}}
http: {{listen: "127.0.0.1:0"}}    # any free port; the log names it
peers:
  listen: 127.0.0.1:{port}
  advertise: {address}      # through the relay that the demo cuts
  neighbours: [{neighbours}]
  lineage: fashion
mixer:
  name: dimat
  start: ./start                 # an initialisation of its own
  matching: activations
  wait: {{shortest: 2.0, longest: 60.0}}  # rounds of the demo take seconds
task:
  entrypoint: own_task:Task      # this node's share of the images
  path: .
engine: {{threads: 1}}
"""

UNION = """\
# One of the nodes of `mergenode demo --peers`, union variant.
node: {{name: {name}, state: ./state}}
base: ../base
registries:
  - url: ./inbox
    settle_seconds: 1.0          # a real share needs the default of 30
    settle_polls: 2
    poll_seconds: 0.5
method: {{name: average}}
publish: {{path: ./published, keep: 20}}
http: {{listen: "127.0.0.1:0"}}
peers:
  listen: 127.0.0.1:{port}
  advertise: {address}
  neighbours: [{neighbours}]
  lineage: fashion-union
mixer: {{name: union}}
engine: {{threads: 1}}
"""


@dataclass(frozen=True, slots=True)
class Member:
    """One node: its process, its port, and the relay through which others reach it."""

    name: str
    process: NodeProcess
    port: int
    relay: Relay


class Fleet:
    """Nodes of a graph, not yet started. Use it in ``with``: no process and no port is left."""

    def __init__(
        self,
        directory: Path,
        edges: Sequence[Sequence[int]],
        settings: str,
        run: Callable[[Path], NodeProcess] = NodeProcess,
    ) -> None:
        """``edges``: per node its neighbours. ``settings``: a template; each node's own lies in ``directory/NAME``."""
        self._parted: tuple[frozenset[str], ...] = ()
        self._stack = ExitStack()
        self.members: list[Member] = []
        for number in range(len(edges)):
            self.members.append(self._member(directory, f"node-{number + 1}", run))
        for member, near in zip(self.members, edges, strict=True):
            text = settings.format(
                name=member.name,
                port=member.port,
                address=member.relay.address,
                neighbours=", ".join(f'"{self.members[other].relay.address}"' for other in near),
            )
            member.process.config.write_text(text, encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def start(self) -> None:
        """Start every process, then wait until all of them answer. Raises FatalError as ``NodeProcess.start``."""
        offsets = [member.process.launch() for member in self.members]
        for member, offset in zip(self.members, offsets, strict=True):
            member.process.await_ready(offset, START_SECONDS)

    def stop(self) -> list[int]:
        """SIGTERM to all; their exit codes."""
        for member in self.members:
            member.process.process.terminate()
        return [member.process.exit_code() for member in self.members]

    def part(self, *groups: Iterable[str]) -> int:
        """From now on nodes of different groups cannot reach each other; returns how many connections were cut."""
        self._parted = tuple(frozenset(group) for group in groups)
        return sum(member.relay.cut() for member in self.members)

    def heal(self) -> None:
        """Everybody can reach everybody again."""
        self._parted = ()

    def names_by_pid(self) -> Mapping[int, str]:
        """The processes that run now."""
        return {member.process.process.pid: member.name for member in self.members if member.process.launched}

    def _member(self, directory: Path, name: str, run: Callable[[Path], NodeProcess]) -> Member:
        own = directory / name
        own.mkdir(parents=True)
        process = run(own)
        self._stack.callback(process.close)
        port = free_port()
        relay = Relay(("127.0.0.1", port), lambda: list(self.names_by_pid()), lambda pid: self._may(pid, name))
        self._stack.callback(relay.close)
        return Member(name, process, port, relay)

    def reaches(self, caller: str | None, callee: str) -> bool:
        """Whether no partition lies between them. While there is one, callers that nobody knows stay outside."""
        return not self._parted or any(caller in group and callee in group for group in self._parted)

    def _may(self, caller: int | None, callee: str) -> bool:
        return self.reaches(None if caller is None else self.names_by_pid().get(caller), callee)


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def ring_edges(nodes: int) -> list[list[int]]:
    """Per node the two beside it on a circle."""
    return [sorted({(node - 1) % nodes, (node + 1) % nodes}) for node in range(nodes)]
