"""How the statistics of several nodes become one: parts in and out as files, and their sum."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

from mergenode.ledger.union import Node, Part, Selection
from mergenode.ports.exchange import Arrived
from mergenode.ports.observer import Observer
from mergenode.ports.restater import Restatement
from mergenode.types import Head


class Uniter(Protocol):
    """Keeps one checked part per other node, and adds parts up. Holds no decision about what is counted."""

    def heard(self) -> Sequence[Part]:
        """The parts that are here, in any order; several of one node where a kill came between two."""
        ...

    def admit(self, arrived: Arrived, others: Collection[Part]) -> Part:
        """Check what another node offered, and keep it. ``others``: the parts that its size is compared with.

        Durability: here on return, also after ``release``. Idempotence: the same head again is the same part.

        Raises:
            RejectedError: it is no part of a merge of this base, method and options, or no data could have made it.
            TransientError: try again later.
        """
        ...

    def keep(self, parts: Collection[Part]) -> None:
        """Remove all parts but these. Idempotent."""
        ...

    def present(self, part: Part, head: Head) -> Sequence[Path]:
        """Files whose tensors, all together, say what ``part`` says of the own merge, which is at ``head``.

        They may be removed by the next call. Raises RejectedError (TOO_LARGE) when others would not read it.
        """
        ...

    def unite(self, selection: Selection, me: Node, own: Head, observer: Observer) -> Restatement:
        """Leave the sum of these parts, in this order, in the folding folder of the union; ``own``: of the part ``me``.

        Durability: synced on return. Idempotence: killed half way, the same call goes on after the last durable shard.
        The bytes depend on the statistics of the parts and their order alone.

        Raises:
            TransientError: try again later; a part that was damaged on this disk is gone, and heard again.
            FatalError: the own statistics are damaged, or memory cannot hold the largest step.
        """
        ...
