"""What other nodes have to say about a content before this one folds it; alone, nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mergenode.ledger.records import Fact
from mergenode.ledger.union import Node, Ruling
from mergenode.types import Digest


class Elsewhere(Protocol):
    """Asked and told by the line of contributions."""

    def keeper(self, content: Digest) -> Node | None:
        """The other node by which this content counts already."""
        ...

    def ruling(self, content: Digest) -> Ruling | None:
        """The newest ruling on this content."""
        ...

    def readmission(self, content: Digest, now: str) -> tuple[Fact, ...]:
        """The facts by which a retracted content may be in the merge again; none are needed where it may."""
        ...

    def recorded(self, facts: Sequence[Fact]) -> None:
        """These facts are in the ledger now."""
        ...


class _Nowhere:
    def keeper(self, content: Digest) -> Node | None:
        return None

    def ruling(self, content: Digest) -> Ruling | None:
        return None

    def readmission(self, content: Digest, now: str) -> tuple[Fact, ...]:
        return ()

    def recorded(self, facts: Sequence[Fact]) -> None:
        """Nobody wants to know."""


NOWHERE: Elsewhere = _Nowhere()
"""There are no other nodes."""
