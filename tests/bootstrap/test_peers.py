"""Nodes as the settings compose them, behind one name: they meet, weights and contributions travel under that name."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from mergenode.adapters.checkpoints.base import describe_base
from mergenode.adapters.clock import SystemClock
from mergenode.adapters.observers.fan_out import FanOut
from mergenode.adapters.peers.weights.exchange import GrpcExchange
from mergenode.bootstrap.exchanging import open_exchange
from mergenode.bootstrap.forwarding import neighbour_channel
from mergenode.bootstrap.peers import Peers, join_peers, open_port
from mergenode.ports.exchange import Offer
from mergenode.settings import load_settings
from tests.support.checkpoints import base_tensors, finetuned, write_single
from tests.support.peer_ports import Trial, code_of
from tests.support.real_node import RealNode

NAME = "nodes.models.svc"
PATIENCE = 60.0


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    """Free at 127.0.0.2 and 127.0.0.3, which is what the name stands for from now on."""
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.2", 0))
        number = int(first.getsockname()[1])
        second.bind(("127.0.0.3", number))
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *rest: Any, **more: Any) -> Any:
        if host != NAME:
            return real(host, *rest, **more)
        return [found for each in ("127.0.0.2", "127.0.0.3") for found in real(each, *rest, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return number


@contextmanager
def node(root: Path, listen: str, trial: Trial) -> Iterator[tuple[Peers, GrpcExchange]]:
    files = trial.files("peer", "shared", (NAME,))
    tls = {"certificate": str(files.certificate), "key": str(files.key), "authority": str(files.authority)}
    neighbours = [f"dns:{NAME}:{listen.rpartition(':')[2]}"]
    real = RealNode(root, peers={"listen": listen, "neighbours": neighbours, "tls": tls}, mixer={"name": "union"})
    real.state.mkdir()
    peers = join_peers(load_settings(real.config), FanOut([]), CollectorRegistry(), SystemClock())
    assert peers is not None
    opened = open_exchange(peers, describe_base(real.base))
    with open_port(peers, opened) as address:
        assert address == listen
        yield peers, opened[0]


class Changes:
    """Waits until something is so, looking when one of the nodes has news."""

    def __init__(self, *nodes: tuple[Peers, GrpcExchange]) -> None:
        self._news = threading.Event()
        for peers, exchange in nodes:
            peers.membership.listen(self._news.set)
            exchange.listen(self._news.set)

    def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            assert self._news.wait(PATIENCE), "nothing happens any more"
            self._news.clear()


def test_what_is_found_under_a_name_is_called_for_everything(tmp_path: Path, port: int) -> None:
    trial = Trial(tmp_path / "trial")
    places = [f"127.0.0.2:{port}", f"127.0.0.3:{port}"]
    with ExitStack() as stack:
        nodes = [stack.enter_context(node(tmp_path / place, place, trial)) for place in places]
        (one, offers), (other, receives) = nodes
        changes = Changes(*nodes)
        changes.until(lambda: other.membership.addresses() == {one.identity.node_id: places[0]})
        changes.until(lambda: one.membership.picture().links.get(places[0]) == "this node itself")

        tuned = write_single(tmp_path / "tuned", finetuned(base_tensors(), seed=1))
        head = offers.offer(Offer(weights=[tuned / "model.safetensors"], epoch=1))
        changes.until(lambda: receives.arrived().get(one.identity.node_id))
        assert receives.arrived()[one.identity.node_id].head == head

        with neighbour_channel(other, places[0]) as channel:
            assert code_of(channel, "/mergenode.v1.Intake/Missing").name == "UNIMPLEMENTED", "it was reached"
