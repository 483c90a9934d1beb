"""The ledgers of a node in a union, read as one: what is published is the union's, everything else the node's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mergenode.ledger.records import (
    ContributionFact,
    Fact,
    Folded,
    Held,
    Initialised,
    Member,
    Published,
    Rejected,
    Released,
    Retracted,
)
from mergenode.ports.ledger_store import Key, LedgerReader
from mergenode.types import Digest, Head

_OF_THE_UNION = frozenset({"published", "pruned"})
_TOLD_BY_THE_UNION = _OF_THE_UNION | {"united"}


@dataclass(frozen=True, slots=True)
class UnionReader:
    """Implements ``LedgerReader`` for who looks at a node: ``own`` and ``shown`` are the two ledgers."""

    own: LedgerReader
    shown: LedgerReader

    def initialised(self) -> Initialised | None:
        return self.own.initialised()

    def head(self) -> Head:
        """Of the union: its contributions and its newest version."""
        return self.shown.head()

    def outcomes(self, keys: Iterable[Key]) -> Mapping[Key, ContributionFact]:
        return self.own.outcomes(keys)

    def discovered(self, keys: Iterable[Key]) -> Mapping[Key, int]:
        return self.own.discovered(keys)

    def by_content(self, content: Digest) -> Member | None:
        return self.shown.by_content(content)

    def retraction(self, content: Digest) -> Retracted | None:
        return self.own.retraction(content)

    def held(self, content: Digest) -> Held | None:
        return self.own.held(content)

    def release(self, content: Digest) -> Released | None:
        return self.own.release(content)

    def refusal(self, content: Digest) -> Rejected | None:
        return self.own.refusal(content)

    def quarantine(self, newest: int | None = None, *, kind: str | None = None) -> Sequence[tuple[int, Held]]:
        return self.own.quarantine(newest, kind=kind)

    def quarantine_size(self) -> int:
        return self.own.quarantine_size()

    def members(self, after: int = 0) -> Iterator[tuple[int, Member]]:
        return self.shown.members(after)

    def newest_members(self, count: int) -> Sequence[tuple[int, Member]]:
        return self.shown.newest_members(count)

    def facts(
        self, *, kinds: Sequence[str] = (), name: str | None = None, newest: int | None = None
    ) -> Sequence[tuple[int, Fact]]:
        """Of the union where only versions, or what they are made of, are asked for; else of the node."""
        reader = self.shown if kinds and _TOLD_BY_THE_UNION.issuperset(kinds) else self.own
        return reader.facts(kinds=kinds, name=name, newest=newest)

    def folds(self, after: int = 0) -> Iterator[tuple[int, Folded]]:
        return self.own.folds(after)

    def history(self) -> Iterator[tuple[int, Fact]]:
        return self.own.history()

    def counts(self) -> Mapping[str, int]:
        """Facts of the node, and versions of the union."""
        of_union = self.shown.counts()
        return {**self.own.counts(), **{kind: of_union[kind] for kind in sorted(_OF_THE_UNION & of_union.keys())}}

    def versions(self) -> Sequence[Published]:
        return self.shown.versions()
