"""The exchange over real sockets keeps the contract; heads come from a fake that shares a board."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from mergenode.adapters.peers.weights.blob_service import BlobService
from mergenode.adapters.peers.weights.exchange import GrpcExchange
from mergenode.adapters.peers.weights.fetching import Fetcher, FetchSettings
from mergenode.adapters.peers.weights.shelf import Shelf
from mergenode.adapters.peers.weights.sources import Patience
from mergenode.ports.exchange import Exchange, Offer
from mergenode.wire.encoding import Encoding
from tests.support.clock import FakeClock
from tests.support.exchange_contract import ExchangeContract, model, newest_arrived, same_weights
from tests.support.memory_heads import HeadBoard, MemoryHeads
from tests.support.peer_servers import ThreadedServer, insecure_channel
from tests.support.relay import Faults, Relay
from tests.support.stored_models import store
from tests.support.transfer_notes import TransferNotes

QUICK = FetchSettings(patience=Patience(first_pause=0.01, longest_pause=0.05))


class Node:
    """An exchange, its server, and a relay in front of that."""

    def __init__(self, board: HeadBoard, number: int, folder: Path, incarnation: int = 1) -> None:
        self.clock, self.notes = FakeClock(), TransferNotes()
        self.heads = MemoryHeads(board, number, incarnation)
        self.shelf = Shelf(folder / "shelf", self.clock.monotonic, observer=self.notes)
        self.exchange = GrpcExchange(
            self.heads,
            self.shelf,
            lambda accuse: Fetcher(self.shelf, insecure_channel, self.notes, accuse, QUICK),
            observer=self.notes,
        )
        self.service = BlobService(self.shelf, self.notes)
        self.server = ThreadedServer(self.service)
        self.relay = Relay(("127.0.0.1", self.server.port))
        self.heads.address = self.relay.address
        self.exchange.start()

    def close(self) -> None:
        self.exchange.stop()
        self.relay.close()
        self.server.stop()
        self.service.close()


class GrpcPair:
    def __init__(self, folder: Path) -> None:
        self.board = HeadBoard()
        self.nodes = [Node(self.board, number, folder / str(number)) for number in (1, 2)]
        self.first: Exchange = self.nodes[0].exchange
        self.second: Exchange = self.nodes[1].exchange
        self._changed = threading.Condition()
        for node in self.nodes:
            node.exchange.listen(self._poke)

    def until(self, happened: Callable[[], bool]) -> None:
        """Listeners are called one after another, so one that was called before may be what is waited for."""
        with self._changed:
            assert any(self._changed.wait_for(happened, timeout=0.1) for _ in range(300))

    def pass_time(self) -> None:
        for node in self.nodes:
            node.clock.advance(3600)

    def cut(self) -> None:
        for node in self.nodes:
            node.relay.set(Faults(refuse=True))
            node.relay.cut()
        self.board.set_up(False)

    def heal(self) -> None:
        for node in self.nodes:
            node.relay.set(Faults())
        self.board.set_up(True)

    def close(self) -> None:
        for node in self.nodes:
            node.close()

    def _poke(self) -> None:
        with self._changed:
            self._changed.notify_all()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[GrpcPair]:
    pair = GrpcPair(tmp_path / "nodes")
    yield pair
    pair.close()


class TestGrpcExchange(ExchangeContract):
    pass


def test_an_older_model_is_still_known_after_a_restart(pair: GrpcPair, tmp_path: Path) -> None:
    files = [model(tmp_path / str(seed), seed) for seed in range(2)]
    old = pair.first.offer(Offer(weights=[files[0]], epoch=1))
    pair.until(lambda: pair.first.node_id in pair.second.arrived())
    pair.cut()
    pair.board.up = True  # heads come through, weights do not
    new = pair.first.offer(Offer(weights=[files[1]], epoch=2))
    pair.nodes[1].close()
    pair.nodes[1] = again = Node(pair.board, 2, tmp_path / "nodes" / "2", incarnation=2)
    again.heads.hear()
    assert again.exchange.newest() == {pair.first.node_id: new}
    arrived = again.exchange.arrived()[pair.first.node_id]
    assert arrived.head == old and same_weights(arrived, files[0])


def test_a_third_node_gets_weights_from_whoever_has_them(pair: GrpcPair, tmp_path: Path) -> None:
    file = model(tmp_path / "models", 1)
    pair.first.offer(Offer(weights=[file], epoch=1))
    pair.until(lambda: pair.first.node_id in pair.second.arrived())
    pair.nodes[0].heads.address = None  # cannot be asked any more
    third = Node(pair.board, 3, tmp_path / "nodes" / "3")
    try:
        third.exchange.listen(pair._poke)
        third.heads.hear()
        pair.until(lambda: pair.first.node_id in third.exchange.arrived())
        assert same_weights(third.exchange.arrived()[pair.first.node_id], file)
        assert third.exchange.holders(third.exchange.newest()[pair.first.node_id].root) == [pair.first.node_id.bytes]
    finally:
        third.close()


def test_a_model_that_was_trained_on_travels_as_a_difference(pair: GrpcPair, tmp_path: Path) -> None:
    """No tensor is the same, so neither copies nor the base help: the node's model before does."""
    values = np.random.default_rng(0).standard_normal(1 << 18).astype(np.float32)
    for epoch in range(1, 4):
        values += np.float32(1e-4) * values
        file = store(tmp_path / f"{epoch}.safetensors", {"a": values, "b": values[::-1].copy()})
        head = pair.first.offer(Offer(weights=[file], epoch=epoch))
        pair.until(lambda head=head: newest_arrived(pair) == head)  # type: ignore[misc]  # bound now
        assert same_weights(pair.second.arrived()[pair.first.node_id], file)
        pair.pass_time()
        pair.second.release([])
    notes = pair.nodes[1].notes
    assert notes.blocks["in", Encoding.RAW] == 2, "the first one alone"
    assert notes.blocks["in", Encoding.ORDERED_SPLIT_ZSTD] == 4
    assert notes.wire["in", Encoding.ORDERED_SPLIT_ZSTD] < 0.75 * 4 * (1 << 20)
