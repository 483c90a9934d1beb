"""Nodes that exchange over mutual TLS on loopback, and what can be wrong with one of them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.deploy.observability.stage import Node, Stage, typed
from tests.deploy.observability.watcher import free_port

_LOCK = threading.Lock()
BROKEN = Path(__file__).with_name("broken")


def certificate(folder: Path, name: str, kind: str = "node", *, days: int = 90) -> dict[str, str]:
    """Made, or made anew, by an authority of this folder; the section ``tls``."""
    with _LOCK:
        if not folder.exists():
            typed("certs", "init", folder)
    hosts = ["--host", "127.0.0.1"] if kind == "node" else []
    typed("certs", kind, folder, name, *hosts, "--days", days, "--force")
    place = folder / name
    return {
        "certificate": str(place / "tls.crt"),
        "key": str(place / "tls.key"),
        "authority": str(place / "ca.crt"),
    }  # fmt: skip


class Peers:
    """Nodes of one exchange, called by letters; each is a neighbour of all others unless told otherwise."""

    def __init__(self, stage: Stage, names: str, *, days: int = 90) -> None:
        self.stage, self.certificates = stage, stage.root / "certs"
        self.ports = {name: free_port() for name in names}
        self.tls = {name: certificate(self.certificates, name, days=days) for name in names}
        self.nodes: dict[str, Node] = {}

    def node(
        self, name: str, *, watched: bool = True, neighbours: Mapping[str, int] | None = None,
        advertise: str | None = None, broken: str = "", **settings: Any,
    ) -> Node:  # fmt: skip
        """Not started. ``neighbours``: name to port, where not that of the node; ``broken``: see the folder."""
        others = neighbours if neighbours is not None else {n: p for n, p in self.ports.items() if n != name}
        peers = {
            "listen": f"127.0.0.1:{self.ports[name]}",
            "neighbours": [f"127.0.0.1:{port}" for port in others.values()],
            "tls": self.tls[name],
            "advertise": advertise,
        }
        union = {"method": {"name": "average"}, "mixer": {"name": "union"}}
        node = self.stage.node(name, watched=watched, start=False, peers=peers, **{**union, **settings})
        if broken:
            node.environment = {"PYTHONPATH": f"{BROKEN / broken}:{Path(__file__).parents[3]}"}
        self.nodes[name] = node
        return node

    def start(self, *names: str) -> None:
        for name in names or self.nodes:
            self.nodes[name].start()

    def know_each_other(self, node: Node, count: int) -> None:
        node.sees(f'sum(mergenode_peer_up{{instance="{node.instance}"}}) == {count}')
