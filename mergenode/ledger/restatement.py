"""How a merge becomes one without some of its contributions: decided from values, before anything is read.

Two ways. *Subtract*: the contributions that leave are read once more and taken out of the statistics, where the method
can do that; what stays behind is rounding. *Replay*: start from a snapshot that holds none of them (or from nothing)
and fold the others again; the result is that of a node that never folded them, bit for bit. The cheaper one is taken,
in folds to do; at equal cost the exact one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mergenode.ledger.chain import lineage, lineage_without
from mergenode.ledger.head import head_after
from mergenode.ledger.records import Admitted, Fact, Folded, Initialised, Left, Member, Restated
from mergenode.types import Candidate, Digest, Head

SUBTRACTED, REPLAYED, COMBINED = "subtracted", "replayed", "combined"
"""What ``Restated.how`` says."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A generation and what was in it: the sequence numbers of the facts by which its contributions entered."""

    head: Head
    members: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Subtract:
    """Take these out of the current statistics, ``head``."""

    head: Head
    removed: tuple[Candidate, ...]

    @property
    def folds(self) -> int:
        return len(self.removed)


@dataclass(frozen=True, slots=True)
class Replay:
    """Fold these, in this order, onto the statistics of ``start`` (generation 0: none)."""

    start: Head
    folded: tuple[Candidate, ...]

    @property
    def folds(self) -> int:
        return len(self.folded)


@dataclass(frozen=True, slots=True)
class Impossible:
    """Neither way is open. ``missing``: contributions whose files would have to be there again."""

    missing: tuple[Candidate, ...]
    subtractable: bool


def as_candidate(member: Member) -> Candidate:
    """A contribution of the merge as it would be offered again.

    Forced, because what the ledger names was accepted once and may be a link that an operator named.
    """
    return Candidate(
        member.registry, member.name, member.revision, member.location, weight=member.weight, content=member.content,
        forced=True, profile=tuple(sorted(member.profile.items())),
    )  # fmt: skip


def moments(facts: Iterable[tuple[int, Fact]], generations: Collection[int]) -> dict[int, Moment]:
    """What was in these generations. ``facts``: all that changed members or generation, oldest first."""
    inside: dict[Digest, int] = {}
    found: dict[int, Moment] = {}
    for sequence, fact in facts:
        if isinstance(fact, Folded | Admitted):
            inside[fact.content] = sequence
        elif isinstance(fact, Left):
            inside.pop(fact.content, None)
        if isinstance(fact, Folded | Restated) and fact.generation in generations:
            found[fact.generation] = Moment(head_after(fact, None), tuple(inside.values()))
    return found


def plan_restatement(
    head: Head, members: Sequence[tuple[int, Candidate]], removed: Collection[Digest], *, retractable: bool,
    snapshots: Iterable[Moment], at_hand: Collection[Digest],
) -> Subtract | Replay | Impossible:  # fmt: skip
    """The cheapest way from ``head`` to a merge of the ``members`` without ``removed``.

    ``members``: everything in the merge, in order, with the sequence numbers of their facts. ``snapshots``: earlier
    generations whose statistics are kept. ``at_hand``: contents whose files are where the ledger says, or elsewhere.
    """
    leaving = tuple(candidate for _, candidate in members if candidate.content in removed)
    staying = [(sequence, candidate) for sequence, candidate in members if candidate.content not in removed]
    replay = _cheapest_replay(staying, snapshots)
    missing = _missing(replay.folded, at_hand)
    # Nothing can be subtracted to nothing: what rounding left of the last contribution would be published.
    subtract = Subtract(head, leaving) if retractable and staying else None
    if subtract is not None and not _missing(leaving, at_hand) and (missing or subtract.folds < replay.folds):
        return subtract
    if not missing:
        return replay
    return Impossible(_missing(leaving, at_hand) if subtract else missing, subtractable=subtract is not None)


def _cheapest_replay(staying: Sequence[tuple[int, Candidate]], snapshots: Iterable[Moment]) -> Replay:
    order = tuple(sequence for sequence, _ in staying)
    usable = [moment for moment in snapshots if order[: len(moment.members)] == moment.members and moment.members]
    start = max(usable, key=lambda moment: (len(moment.members), moment.head.generation), default=Moment(Head(), ()))
    return Replay(start.head, tuple(candidate for _, candidate in staying[len(start.members) :]))


def _missing(candidates: Iterable[Candidate], at_hand: Collection[Digest]) -> tuple[Candidate, ...]:
    return tuple(candidate for candidate in candidates if candidate.content not in at_hand)


def lineage_after(way: Subtract | Replay, origin: Initialised) -> Digest | None:
    """Identity of the merge that this way leads to; None for an empty one."""
    if isinstance(way, Subtract):
        return lineage_without(way.head.lineage, [_content(candidate) for candidate in way.removed])
    head = way.start
    for candidate in way.folded:
        step = lineage(
            head.lineage, base=origin.base, method=origin.method, options=origin.options,
            content=_content(candidate), weight=candidate.weight, profile=dict(candidate.profile),
        )  # fmt: skip
        head = replace(head, lineage=step)
    return head.lineage


def found_elsewhere(candidate: Candidate, places: Mapping[Digest, str]) -> Candidate:
    """The candidate at the place that the operator named for its content, where he named one."""
    return replace(candidate, location=places.get(_content(candidate), candidate.location))


def _content(candidate: Candidate) -> Digest:
    assert candidate.content is not None  # everything in the merge was hashed
    return candidate.content
