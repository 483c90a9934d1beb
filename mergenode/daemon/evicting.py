"""A pool above its limit: every content is evaluated by itself once, which shows whose merits others have as well.

Who leaves is ``rejected`` with the reason ``evicted``: no longer chosen from, until somebody asks for it. Everything is
decided from what is on disk (facts, remembered losses), so that killed anywhere the next start ends the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum

from mergenode.daemon.choosing import PoolChanged, Tell
from mergenode.errors import RejectReason, TransientError, TransientReason
from mergenode.ledger.records import Rejected
from mergenode.ports.ledger_store import LedgerReader
from mergenode.ports.pool import Indexed, Unreadable
from mergenode.ports.selecting import Objective
from mergenode.selectors.fitness_sharing import Evicted, evict, scores_of
from mergenode.types import Candidate, Digest

_LOOKED_BACK = 64
"""Refusals that are read at once; an eviction lies seldom further back."""

_OF_THE_CONTENT = (TransientReason.VANISHED, TransientReason.CHANGED_WHILE_READING, TransientReason.READ_FAILED)
"""Failures that say that this content cannot be read now; the others can do without it."""


@dataclass(slots=True, kw_only=True)
class Evicting:
    """What is known of contents by themselves. Nothing in it is needed after a restart."""

    objective: Objective
    tell: Tell
    _known: set[Digest] = field(default_factory=set)
    _failures: dict[Digest, int] = field(default_factory=dict)

    def losses(self, pool: Mapping[Digest, Candidate]) -> dict[str, Sequence[float]] | None:
        """Losses by sample of the whole pool; None: one content was evaluated just now, ask again.

        One at a time, so that other work and requests get their turn. Where the plug-in failed, the others come first.

        Raises PoolChanged: a content cannot be read now; TransientError, Stopped: as ``Objective``.
        """
        for content in sorted(pool, key=lambda content: (self._failures.get(content, 0), content)):
            if content not in self._known and self.objective.remembered(content) is None:
                self._evaluate(content, pool[content])
                return None
            self._known.add(content)
        found = {content: self.objective.remembered(content) for content in pool}
        self._known = {content for content, losses in found.items() if losses is not None}
        if len(self._known) < len(pool):
            return None  # a record was damaged meanwhile
        return {str(content): losses for content, losses in found.items() if losses is not None}

    def _evaluate(self, content: Digest, candidate: Candidate) -> None:
        try:
            losses = self.objective.losses_alone(content)
        except TransientError as error:
            if error.reason in _OF_THE_CONTENT and not error.of_node:
                raise PoolChanged(
                    [Unreadable(candidate, error.reason.value, error.message, error.hint, transient=True)]
                ) from error
            self._failures[content] = self._failures.get(content, 0) + 1
            message = f"{candidate.name} by itself: {error.message}"
            raise TransientError(error.reason, message, hint=error.hint, of_node=error.of_node) from error
        self._failures.pop(content, None)
        self.tell(f"pool above its limit: {candidate.name} by itself, loss {fsum(losses) / len(losses):.6g}")


def leaving(
    losses: Mapping[str, Sequence[float]], copies: Iterable[Indexed], limit: int, keep: Collection[Digest], now: str
) -> tuple[Rejected, ...]:
    """Facts about those who leave until ``limit`` are left, with all copies of them, in the order of leaving."""
    places: dict[str, list[Candidate]] = {}
    for known in sorted(copies, key=lambda known: known.candidate.key):
        places.setdefault(known.content, []).append(known.candidate)
    return tuple(
        _fact(gone, candidate, losses, limit, now)
        for gone in evict(scores_of(losses), limit, keep=set(map(str, keep)))
        for candidate in places.get(gone.vertex, ())
    )


def _fact(gone: Evicted, candidate: Candidate, losses: Mapping[str, Sequence[float]], limit: int, now: str) -> Rejected:
    samples = len(losses[gone.vertex])
    share = f"its share is {gone.share:.4g} of {samples} samples" if gone.share is not None else (
        f"it was evaluated on {samples} samples, unlike most others"
    )  # fmt: skip
    return Rejected(
        time=now, registry=candidate.registry, name=candidate.name, revision=candidate.revision,
        content=Digest(gone.vertex), reason=RejectReason.EVICTED.value,
        message=f"{candidate.name}: evicted, the pool holds {gone.among} contents and its limit is {limit}; {share}, "
        f"rank {gone.rank} of {gone.among}",
        hint="Others do as well where it does well. Raise selector.limit to keep more; `mergenode ingest PATH` has it "
        "judged again.",
    )  # fmt: skip


def evicted_since(ledger: LedgerReader, sequence: int) -> set[Digest]:
    """Contents that were evicted by facts beyond ``sequence``."""
    wanted = _LOOKED_BACK
    while True:
        found = ledger.facts(kinds=["rejected"], newest=wanted)
        if len(found) < wanted or found[0][0] <= sequence:
            break
        wanted *= 4
    return {
        fact.content
        for number, fact in found
        if number > sequence and isinstance(fact, Rejected) and fact.content and fact.reason == RejectReason.EVICTED
    }
