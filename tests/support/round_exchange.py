"""An exchange between nodes of one process: heads and weights go from hand to hand, when and where the test says."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import UUID

from blake3 import blake3

from mergenode.ports.exchange import Arrived, Offer
from mergenode.wire.blocks import Root
from mergenode.wire.heads import Head

ZERO = bytes(32)


def node_id(number: int) -> UUID:
    return UUID(int=number + 1)


@dataclass
class Wires:
    """Who reaches whom, and what is under way. ``delay(sender, receiver)``: seconds until an offer arrives.

    ``clock``: now. ``tamper``: what becomes of an offer between two nodes (None: it is lost). ``root_of``: identity of
    weights; ``store``: makes a copy that outlives the sender's file.
    """

    edges: Mapping[UUID, frozenset[UUID]]
    clock: Callable[[], float] = lambda: 0.0
    delay: Callable[[UUID, UUID], float] = lambda sender, receiver: 0.0
    tamper: Callable[[UUID, UUID, Head, Path], tuple[Head, Path] | None] = lambda a, b, head, path: (head, path)
    root_of: Callable[[Path], bytes] = lambda path: blake3(path.read_bytes()).digest()
    store: Callable[[Path, Root], Path] = lambda path, root: path
    cut: set[frozenset[UUID]] = field(default_factory=set)
    down: set[UUID] = field(default_factory=set)
    under_way: list[tuple[float, UUID, UUID, Head, Path]] = field(default_factory=list)
    boxes: dict[UUID, dict[UUID, Arrived]] = field(default_factory=dict)
    newest: dict[UUID, tuple[Head, Path]] = field(default_factory=dict)
    pokes: dict[UUID, Callable[[], None]] = field(default_factory=dict)

    def reaches(self, one: UUID, other: UUID) -> bool:
        return frozenset((one, other)) not in self.cut and not {one, other} & self.down

    def send(self, head: Head, path: Path) -> None:
        self.newest[head.node_id] = (head, path)
        for receiver in self.edges[head.node_id]:
            self._send(head.node_id, receiver)
        self.deliver()

    def heal(self) -> None:
        """Everybody reaches everybody again and hears the newest of its neighbours."""
        self.cut.clear()
        self.resend()

    def resend(self) -> None:
        for sender in self.newest:
            for receiver in self.edges[sender]:
                self._send(sender, receiver)
        self.deliver()

    def _send(self, sender: UUID, receiver: UUID) -> None:
        if self.reaches(sender, receiver):
            sent = self.tamper(sender, receiver, *self.newest[sender])
            if sent is not None:
                self.under_way.append((self.clock() + self.delay(sender, receiver), sender, receiver, *sent))

    def deliver(self) -> None:
        """What is due by now arrives, unless it is older than what is there."""
        due = [item for item in self.under_way if item[0] <= self.clock()]
        self.under_way = [item for item in self.under_way if item[0] > self.clock()]
        for _, sender, receiver, head, path in sorted(due, key=lambda item: item[0]):
            box = self.boxes.setdefault(receiver, {})
            if self.reaches(sender, receiver) and (sender not in box or head.position > box[sender].head.position):
                box[sender] = Arrived(head, path)
                self.pokes.get(receiver, lambda: None)()


class WireExchange:
    """Implements ports.exchange.Exchange on ``Wires``. ``accused``: what was refused, in order."""

    def __init__(self, wires: Wires, own: UUID, incarnation: int = 1) -> None:
        self.wires, self._own, self._incarnation = wires, own, incarnation
        self._seq = 0
        self.accused: list[tuple[UUID, str]] = []
        self.offers: list[Offer] = []

    @property
    def node_id(self) -> UUID:
        return self._own

    @property
    def incarnation(self) -> int:
        return self._incarnation

    def offer(self, offer: Offer) -> Head:
        (path,) = offer.weights
        root = Root(self.wires.root_of(path))
        self._seq += 1
        head = Head(
            "test", self._own, self._incarnation, offer.epoch, self._seq, root, ZERO, Root(ZERO), offer.weight,
            offer.push_sum, offer.parents, offer.metrics,
        )  # fmt: skip
        self.offers.append(offer)
        self.wires.send(head, self.wires.store(path, root))
        return head

    def newest(self) -> Mapping[UUID, Head]:
        return {node: found.head for node, found in self.arrived().items()}

    def arrived(self) -> Mapping[UUID, Arrived]:
        self.wires.deliver()
        return dict(self.wires.boxes.get(self._own, {}))

    def release(self, keep: Sequence[Root]) -> None:
        """Nothing is removed."""

    def neighbours(self) -> Mapping[UUID, bool]:
        return {other: self.wires.reaches(self._own, other) for other in sorted(self.wires.edges[self._own])}

    def accuse(self, node_id: UUID, code: str, message: str) -> None:
        self.accused.append((node_id, code))

    def listen(self, poke: Callable[[], None]) -> None:
        self.wires.pokes[self._own] = poke


def copies_in(folder: Path) -> Callable[[Path, Root], Path]:
    """Keeps what was offered by its root."""
    folder.mkdir(parents=True, exist_ok=True)

    def keep(path: Path, root: Root) -> Path:
        place = folder / f"{root.hex()}.safetensors"
        if not place.exists():
            shutil.copyfile(path, place)
        return place

    return keep


def retold(head: Head, **changes: object) -> Head:
    return replace(head, **changes)  # type: ignore[arg-type]  # fields of a head by name
