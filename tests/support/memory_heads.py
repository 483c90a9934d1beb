"""Heads of several nodes in one process, and where their weights can be asked for: a fake of ``Heads``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from mergenode.adapters.peers.weights.sources import Source
from mergenode.ports.exchange import Offer
from mergenode.wire.blocks import Root
from mergenode.wire.heads import Head

_BASE = Root(bytes(32))


class HeadBoard:
    """What every node has said. ``up``: whether heads are heard and neighbours are seen."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.nodes: dict[UUID, MemoryHeads] = {}
        self.up = True

    def set_up(self, up: bool) -> None:
        with self.lock:
            self.up = up
            nodes = list(self.nodes.values())
        for node in nodes:
            node.hear()


class MemoryHeads:
    """One node. ``address``: where its weights are served, None: not yet."""

    def __init__(self, board: HeadBoard, number: int, incarnation: int = 1) -> None:
        self._board, self._node_id, self._incarnation = board, UUID(int=number), incarnation
        self._seq = 0
        self._own: Head | None = None
        self._heard: dict[UUID, Head] = {}
        self._pokes: list[Callable[[], None]] = []
        self.address: str | None = None
        self.accused: list[tuple[UUID, str, str]] = []
        board.nodes[self._node_id] = self

    @property
    def node_id(self) -> UUID:
        return self._node_id

    @property
    def incarnation(self) -> int:
        return self._incarnation

    def sign(self, offer: Offer, root: Root, schema_hash: bytes) -> Head:
        with self._board.lock:
            self._seq += 1
            self._own = Head(
                "mergenode", self._node_id, self._incarnation, offer.epoch, self._seq, root, schema_hash, _BASE,
                offer.weight, offer.push_sum, offer.parents, dict(offer.metrics),
            )  # fmt: skip
            others = list(self._board.nodes.values())
            own = self._own
        for other in others:
            other.hear()
        return own

    def own(self) -> Head | None:
        return self._own

    def hear(self) -> None:
        with self._board.lock:
            if self._board.up:
                self._heard |= {other.node_id: other._own for other in self._others() if other._own is not None}
        for poke in list(self._pokes):
            poke()

    def newest(self) -> Mapping[UUID, Head]:
        with self._board.lock:
            return dict(self._heard)

    def sources(self, head: Head) -> Sequence[Source]:
        with self._board.lock:
            others = sorted(self._others(), key=lambda other: other.node_id != head.node_id)
            return [
                Source(str(other.node_id.int), other.address, other.node_id)
                for other in others
                if other.address is not None
            ]

    def neighbours(self) -> Mapping[UUID, bool]:
        return {other.node_id: self._board.up for other in self._others()}

    def accuse(self, node_id: UUID, code: str, message: str) -> None:
        self.accused.append((node_id, code, message))

    def listen(self, poke: Callable[[], None]) -> None:
        self._pokes.append(poke)

    def _others(self) -> list[MemoryHeads]:
        return [node for node in self._board.nodes.values() if node is not self]
