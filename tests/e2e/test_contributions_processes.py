"""Three real nodes in a chain fold with opcm what either end was given, through a SIGKILL of the one in the middle."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mergenode.ledger.records import Folded
from tests.support.checkpoints import finetuned, lora_tensors, write_adapter, write_single
from tests.support.real_node import Process, RealNode, mergenode

pytestmark = pytest.mark.slow

NAMES = ("north", "middle", "south")
NEIGHBOURS = {"north": ("middle",), "middle": ("north", "south"), "south": ("middle",)}


class Chain:
    """The nodes, their certificates and processes. Ports stay the same over restarts, as those of services do."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        self.root, self._stack = root, stack
        with ExitStack() as free:
            sockets = [free.enter_context(socket.socket()) for _ in NAMES]
            for each in sockets:
                each.bind(("127.0.0.1", 0))
            self.ports = {name: each.getsockname()[1] for name, each in zip(NAMES, sockets, strict=True)}
        done("certs", "init", root / "certs")
        for name in NAMES:
            done("certs", "node", root / "certs", name, "--host", "127.0.0.1")
        done("certs", "pusher", root / "certs", "team")
        self.nodes = {name: self._node(name) for name in NAMES}
        self.running: dict[str, Process] = {}

    def _node(self, name: str) -> RealNode:
        files = self.root / "certs" / name
        tls = {"certificate": "tls.crt", "key": "tls.key", "authority": "ca.crt"}
        peers = {
            "listen": f"127.0.0.1:{self.ports[name]}",
            "neighbours": [f"127.0.0.1:{self.ports[other]}" for other in NEIGHBOURS[name]],
            "tls": {key: str(files / file) for key, file in tls.items()},
        }
        return RealNode(self.root / name, method={"name": "opcm"}, mixer={"name": "contributions"}, peers=peers)

    def start(self, name: str) -> None:
        process = self._stack.enter_context(Process("run", "-c", self.nodes[name].config))
        self.running[name] = process
        process.until("peers on")

    def kill(self, name: str) -> None:
        os.kill(self.running[name].process.pid, signal.SIGKILL)
        self.running[name].process.wait(60)

    def push(self, to: str, model: Path) -> None:
        files = self.root / "certs" / "team"
        done(
            "push", model, "--to", f"127.0.0.1:{self.ports[to]}", "--wait", "--weight", "0.5",
            "--profile", "head*=0.25",
            "--tls-cert", files / "tls.crt", "--tls-key", files / "tls.key", "--tls-ca", files / "ca.crt",
        )  # fmt: skip

    def folded(self, name: str) -> list[Folded]:
        return [fact for fact in self.nodes[name].facts("folded") if isinstance(fact, Folded)]

    def settle(self, *contributions: str) -> None:
        """Until every node folded these, by the names under which they came in."""
        for name in NAMES:
            while {fact.name.rpartition("@")[0] or fact.name for fact in self.folded(name)} != set(contributions):
                self.running[name].until("folded")


def done(*args: object) -> str:
    ended = mergenode(*args)
    assert ended.returncode == 0, f"{args}: {ended.stdout}{ended.stderr}"
    return ended.stdout


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    with ExitStack() as stack:
        yield Chain(tmp_path, stack)


def test_every_node_folds_every_content_once_through_a_kill(chain: Chain) -> None:
    for name in NAMES:
        chain.start(name)
    chain.nodes["north"].put("one", 1)  # from a directory
    chain.push("south", write_single(chain.root / "two", finetuned(chain.nodes["south"].tensors, seed=2)))
    chain.settle("one", "two")

    chain.kill("middle")
    chain.nodes["south"].put("three", 3)
    chain.push("north", write_adapter(chain.root / "four", lora_tensors()))
    chain.start("middle")
    chain.settle("one", "two", "three", "four")

    for name in NAMES:
        assert chain.running[name].end() == 0, "".join(chain.running[name].lines)
        assert not chain.nodes[name].problems()
    merges = {name: chain.folded(name) for name in NAMES}
    assert all(len({fact.content for fact in merge}) == len(merge) == 4 for merge in merges.values())
    assert (
        len(
            {
                frozenset((fact.content, fact.weight, *fact.profile.items()) for fact in merge)
                for merge in merges.values()
            }
        )
        == 1
    )
