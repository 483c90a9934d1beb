"""The other nodes, as those see them who mix: small signed heads, and the weights behind them once they are here.

How bytes travel, who is trusted to send them, what is tried again and when, all that lies below this port. A head that
comes out of it was signed by the node that it names, is of this lineage, schema and base, and was never here before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Protocol
from uuid import UUID

from mergenode.wire.blocks import Root
from mergenode.wire.heads import Head, Parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What this node says of its model. ``weights``: safetensors files whose tensors, all together, are offered.

    The other fields are those of ``Head``. The files may be removed as soon as the offer is made.
    """

    weights: Sequence[Path]
    epoch: int
    weight: float = 1.0
    push_sum: float = 1.0
    parents: tuple[Parent, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Arrived:
    """A head of another node and its weights: one complete, verified, immutable safetensors file."""

    head: Head
    weights: Path


class Exchange(Protocol):
    """One lineage. Safe to use from one thread while others move bytes."""

    @property
    def node_id(self) -> UUID: ...

    @property
    def incarnation(self) -> int:
        """How often this node was started; only grows."""
        ...

    def offer(self, offer: Offer) -> Head:
        """Sign a head for these weights and serve both. Durable on return; the same weights have the same root.

        Raises:
            TransientError: the disk is full or failing; nothing was offered.
        """
        ...

    def newest(self) -> Mapping[UUID, Head]:
        """The newest head of every other node that was heard of, whether its weights are here or not."""
        ...

    def arrived(self) -> Mapping[UUID, Arrived]:
        """Per node the newest head whose weights are here. What was returned stays readable until ``release``."""
        ...

    def release(self, keep: Sequence[Root]) -> None:
        """Weights that arrived before and are neither among ``keep`` nor the newest of a node may be removed."""
        ...

    def neighbours(self) -> Mapping[UUID, bool]:
        """The nodes that this one exchanges with directly, as far as their ids are known, and whether each is up."""
        ...

    def accuse(self, node_id: UUID, code: str, message: str) -> None:
        """What arrived from this node was refused. Reported; a node that goes on like that is not listened to."""
        ...

    def listen(self, poke: Callable[[], None]) -> None:
        """Call ``poke`` whenever one of the answers above may have changed. It may be called for nothing."""
        ...
