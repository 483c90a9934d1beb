"""Three real nodes in a chain, mutual TLS between them, one published model: pushed to, frozen, killed, retracted."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mergenode.adapters.peers.access.identity import read_identity
from tests.support.checkpoints import finetuned, write_single
from tests.support.real_node import Process, RealNode, mergenode

pytestmark = pytest.mark.slow

NAMES = ("north", "middle", "south")
NEIGHBOURS = {"north": ("middle",), "middle": ("north", "south"), "south": ("middle",)}


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class Chain:
    """The nodes, their certificates and processes. Ports stay the same over restarts, as those of services do."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        self.root, self._stack = root, stack
        self.ports = dict(zip(NAMES, free_ports(3), strict=True))
        done("certs", "init", root / "certs")
        for name in NAMES:
            done("certs", "node", root / "certs", name, "--host", "127.0.0.1")
        done("certs", "pusher", root / "certs", "team")
        self.nodes = {name: self._node(name) for name in NAMES}
        self.running: dict[str, Process] = {}
        for name in NAMES:
            self.start(name)

    def _node(self, name: str) -> RealNode:
        files = self.root / "certs" / name
        return RealNode(
            self.root / name,
            method={"name": "iso"},
            mixer={"name": "union"},
            peers={
                "listen": f"127.0.0.1:{self.ports[name]}",
                "neighbours": [f"127.0.0.1:{self.ports[other]}" for other in NEIGHBOURS[name]],
                "tls": {
                    "certificate": str(files / "tls.crt"),
                    "key": str(files / "tls.key"),
                    "authority": str(files / "ca.crt"),
                },
            },
        )

    def start(self, name: str) -> None:
        process = self._stack.enter_context(Process("run", "-c", self.nodes[name].config))
        self.running[name] = process
        process.until("peers on")

    def signal(self, name: str, number: int) -> None:
        os.kill(self.running[name].process.pid, number)

    def push(self, to: str, name: str, seed: int) -> str:
        model = write_single(self.root / "tuned" / name, finetuned(self.nodes[to].tensors, seed=seed))
        files = self.root / "certs" / "team"
        return done(
            "push", model, "--to", f"127.0.0.1:{self.ports[to]}", "--wait", "--tls-cert", files / "tls.crt",
            "--tls-key", files / "tls.key", "--tls-ca", files / "ca.crt",
        )  # fmt: skip

    def node_id(self, name: str) -> str:
        identity = read_identity(self.nodes[name].state)
        assert identity is not None
        return str(identity.node_id)

    def held(self, name: str) -> set[str]:
        """The contributions of what a node publishes, by the names under which they were pushed."""
        if not (self.nodes[name].published / "latest").exists():
            return set()
        return {entry["name"].rpartition("@")[0] for entry in self.nodes[name].manifest()["contributions"]}

    def settle(self, *contributions: str, names: tuple[str, ...] = NAMES) -> None:
        """Until these nodes publish exactly these contributions; then it has to be the same model, bit for bit."""
        for name in names:
            while self.held(name) != set(contributions):
                self.running[name].until("is visible at")
        latest = [self.nodes[name].published / "latest" for name in names]
        assert len({(path / "model.safetensors").read_bytes() for path in latest}) == 1
        assert len({self.nodes[name].manifest()["model"] for name in names}) == 1


def done(*args: object) -> str:
    ended: subprocess.CompletedProcess[str] = mergenode(*args)
    assert ended.returncode == 0, f"{args}: {ended.stdout}{ended.stderr}"
    return ended.stdout


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    with ExitStack() as stack:
        yield Chain(tmp_path, stack)


def test_one_model_through_freezes_kills_and_retractions(chain: Chain) -> None:
    assert "survived the merge" in chain.push("north", "one", 1)
    chain.push("south", "two", 2)
    chain.settle("one", "two")

    chain.signal("middle", signal.SIGSTOP)  # a partition without a word: both ends go on alone
    chain.push("north", "three", 3)
    chain.settle("one", "two", "three", names=("north",))
    assert chain.held("south") == {"one", "two"}
    chain.signal("middle", signal.SIGCONT)
    chain.settle("one", "two", "three")

    chain.signal("south", signal.SIGKILL)
    chain.running["south"].process.wait(60)
    told = done("retract", "one", "-c", chain.nodes["middle"].config, "--why", "consent withdrawn")
    assert "left the merge: push/one@" in told
    chain.settle("two", "three", names=("north", "middle"))
    chain.start("south")
    chain.settle("two", "three")

    chain.signal("north", signal.SIGKILL)
    chain.running["north"].process.wait(60)
    told = done(
        "peers", "forget", chain.node_id("north"), "-c", chain.nodes["south"].config, "--why", "its disk is gone"
    )
    assert "forgotten" in told
    chain.settle("two", names=("middle", "south"))
