"""The durable, hash-chained sequence of facts and the questions the daemon asks it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

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
from mergenode.types import Digest, Head

Key = tuple[str, str, str]
"""registry, name, revision"""


class LedgerReader(Protocol):
    """Read-only view; safe to use while the node writes. Every query answers in time independent of the history."""

    def initialised(self) -> Initialised | None: ...

    def head(self) -> Head:
        """The committed running merge: from the newest ``folded`` or ``restated`` fact and the newest ``published``."""
        ...

    def outcomes(self, keys: Iterable[Key]) -> Mapping[Key, ContributionFact]:
        """The newest fact about each of these revisions (``discovered`` included); unknown keys are absent."""
        ...

    def discovered(self, keys: Iterable[Key]) -> Mapping[Key, int]:
        """Sequence of the first ``discovered`` fact about each of these revisions; unknown keys are absent."""
        ...

    def by_content(self, content: Digest) -> Member | None:
        """The fact by which this content entered the merge; None when it is not in it."""
        ...

    def retraction(self, content: Digest) -> Retracted | None:
        """The newest retraction of this content; None when it was never retracted or is in the merge again."""
        ...

    def held(self, content: Digest) -> Held | None:
        """The newest fact about this content where it is in quarantine, or released and not folded yet; else None."""
        ...

    def release(self, content: Digest) -> Released | None:
        """The release of this content, where it was not refused, held back or retracted since.

        It outlasts the fold: what leaves the merge for another reason comes in again as it did.
        """
        ...

    def refusal(self, content: Digest) -> Rejected | None:
        """The refusal that names this content (a gate's, or that it was dropped), where nothing came after it."""
        ...

    def quarantine(self, newest: int | None = None, *, kind: str | None = None) -> Sequence[tuple[int, Held]]:
        """Everything that is held, one fact per content, oldest first; ``newest`` keeps only that many.

        ``kind``: only what is in quarantine (``quarantined``), or only what was released and is not folded yet.
        """
        ...

    def quarantine_size(self) -> int:
        """How many contents are in quarantine, without those that were released."""
        ...

    def members(self, after: int = 0) -> Iterator[tuple[int, Member]]:
        """What is in the merge, with sequence numbers beyond ``after``, in the order in which it entered, streamed."""
        ...

    def newest_members(self, count: int) -> Sequence[tuple[int, Member]]:
        """The ``count`` contributions that entered the merge last, oldest of them first."""
        ...

    def facts(
        self, *, kinds: Sequence[str] = (), name: str | None = None, newest: int | None = None
    ) -> Sequence[tuple[int, Fact]]:
        """Facts with their sequence numbers, oldest first; ``newest`` keeps only that many of the latest."""
        ...

    def folds(self, after: int = 0) -> Iterator[tuple[int, Folded]]:
        """Every ``folded`` fact beyond sequence ``after``, oldest first, streamed: for replay."""
        ...

    def history(self) -> Iterator[tuple[int, Fact]]:
        """Every fact that changed what is in the merge or its generation, oldest first, streamed."""
        ...

    def counts(self) -> Mapping[str, int]:
        """How many facts of each kind."""
        ...

    def versions(self) -> Sequence[Published]:
        """Published versions whose files were not pruned, oldest first."""
        ...


class LedgerStore(LedgerReader, Protocol):
    """One writer. ``append`` is durable on return (fsync)."""

    def append(self, *facts: Fact) -> int:
        """Append atomically, all or none; returns the last sequence number.

        Raises:
            TransientError: the disk is full or failing; nothing was appended.
        """
        ...

    def verify(self) -> Sequence[str]:
        """Recompute the chain; returns what is wrong, empty when all is well."""
        ...

    def close(self) -> None: ...
