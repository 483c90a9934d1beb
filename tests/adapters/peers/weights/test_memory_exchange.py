"""The fake keeps the contract that the real exchange keeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mergenode.errors import TransientError
from mergenode.ports.exchange import Exchange, Offer
from tests.support.exchange_contract import ExchangeContract, model
from tests.support.memory_exchange import MemoryNetwork


class MemoryPair:
    def __init__(self, folder: Path) -> None:
        self.network = MemoryNetwork(folder)
        self._nodes = (self.network.join(), self.network.join())
        self.first: Exchange = self._nodes[0]
        self.second: Exchange = self._nodes[1]
        self.network.link(*self._nodes)

    def until(self, happened: Callable[[], bool]) -> None:
        self.network.spread()
        assert happened()

    def pass_time(self) -> None:
        pass

    def cut(self) -> None:
        self.network.link(*self._nodes, up=False)

    def heal(self) -> None:
        self.network.link(*self._nodes)


@pytest.fixture
def pair(tmp_path: Path) -> MemoryPair:
    return MemoryPair(tmp_path / "network")


class TestMemoryExchange(ExchangeContract):
    pass


def test_heads_are_relayed_and_move_apart_from_weights(tmp_path: Path) -> None:
    network = MemoryNetwork(tmp_path, automatic=False)
    a, b, c = network.join(), network.join(), network.join()
    head = a.offer(Offer(weights=[model(tmp_path / "models", 1)], epoch=1))
    assert network.send_heads(a, b) == 1 and network.send_heads(a, b) == 0
    assert network.send_heads(b, c) == 1 and c.newest() == {a.node_id: head} and c.arrived() == {}
    assert network.send_weights(b, c) == 0 and network.send_weights(a, b) == 1 == network.send_weights(b, c)
    assert c.arrived()[a.node_id].head == head


def test_a_restart_keeps_what_is_durable(tmp_path: Path) -> None:
    network = MemoryNetwork(tmp_path)
    a, b = network.join(), network.join()
    network.link(a, b)
    first = a.offer(Offer(weights=[model(tmp_path / "models", 1)], epoch=1))
    a = network.restart(a)
    second = a.offer(Offer(weights=[model(tmp_path / "models", 1)], epoch=1))
    assert a.incarnation == 2 and second.position > first.position
    assert b.arrived()[a.node_id].head == second


def test_a_full_disk_can_be_played(tmp_path: Path) -> None:
    node = MemoryNetwork(tmp_path).join()
    node.disk_full = True
    with pytest.raises(TransientError):
        node.offer(Offer(weights=[model(tmp_path / "models", 1)], epoch=1))
    assert node.own is None
