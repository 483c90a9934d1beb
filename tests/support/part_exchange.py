"""Nodes that exchange files in one process: a message moves when a test says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from uuid import UUID

from blake3 import blake3
from safetensors.torch import load_file, save_file

from mergenode.ports.exchange import Arrived, Offer
from mergenode.wire.blocks import Root
from mergenode.wire.heads import Head


class PartExchange:
    """Implements ``Exchange`` on a directory. ``accused``: the codes with which others were accused."""

    def __init__(self, folder: Path, node_id: UUID, incarnation: int = 1) -> None:
        self.folder, self._node_id, self._incarnation = folder, node_id, incarnation
        self.folder.mkdir(parents=True, exist_ok=True)
        self._seq = 0
        self.own: Arrived | None = None
        self.here: dict[UUID, Arrived] = {}
        self.accused: list[str] = []

    @property
    def node_id(self) -> UUID:
        return self._node_id

    @property
    def incarnation(self) -> int:
        return self._incarnation

    def offer(self, offer: Offer) -> Head:
        tensors = {name: tensor for path in offer.weights for name, tensor in load_file(path).items()}
        return self.offer_tensors(tensors)

    def offer_tensors(self, tensors: Mapping[str, object]) -> Head:
        """Whatever a node may send."""
        self._seq += 1
        path = self.folder / f"{self._incarnation}-{self._seq}.safetensors"
        save_file(dict(tensors), path)  # type: ignore[arg-type]  # tensors
        root = Root(blake3(path.read_bytes()).digest())
        head = Head("t", self._node_id, self._incarnation, 0, self._seq, root, bytes(32), Root(bytes(32)))
        self.own = Arrived(head, path)
        return head

    def newest(self) -> Mapping[UUID, Head]:
        return {node: arrived.head for node, arrived in self.here.items()}

    def arrived(self) -> Mapping[UUID, Arrived]:
        return dict(self.here)

    def release(self, keep: Sequence[Root]) -> None:
        """Everything stays here."""

    def neighbours(self) -> Mapping[UUID, bool]:
        return {}

    def accuse(self, node_id: UUID, code: str, message: str) -> None:
        self.accused.append(code)

    def listen(self, poke: Callable[[], None]) -> None:
        """Tests ask again themselves."""

    def send(self, *others: PartExchange) -> None:
        """What this node offered last, and what it has of others, to these: the newest counts."""
        for found in [*([self.own] if self.own else []), *self.here.values()]:
            for other in others:
                known = other.here.get(found.head.node_id)
                if found.head.node_id != other.node_id and (known is None or known.head.position < found.head.position):
                    other.here[found.head.node_id] = found

    def again(self) -> PartExchange:
        """The exchange of the next process."""
        after = PartExchange(self.folder, self._node_id, self._incarnation + 1)
        after.own, after.here = self.own, self.here
        return after
