"""From the newest selection to a merge that holds it, decided from values alone.

The pool is what can be chosen: contents of listed revisions that were neither refused nor taken out. A selection names
weights; the merge gets there by the steps that exist: what has another weight, or none any more, leaves
(``deselected``), what is missing is folded with its weight. Whether the pool is another one than that of the newest
selection is asked of digests, so that a restart selects nothing again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b

from mergenode.ledger.canonical import canonical
from mergenode.ledger.records import (
    ContributionFact,
    Deselected,
    Discovered,
    Duplicate,
    Folded,
    Member,
    Released,
    Selected,
)
from mergenode.types import Candidate, Digest

_SELECTION = b"mergenode-select"


@dataclass(frozen=True, slots=True)
class Terms:
    """With what weight a content is in the merge, and with which factors of it by tensor name pattern."""

    weight: float
    profile: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far the merge is from what the pool asks for.

    ``unread``: of the pool, what was not looked into by this process; ``aside``: what was, and backs off. ``due``: the
    pool, or what is asked of it, is another than at the newest selection. ``leaving``: in the merge and not as
    selected, ``entering``: to be folded, in order, with the selected weights. ``lacking``: selected and neither in the
    merge nor in the pool any more; what an operator took out does not count. ``crowded``: more can be chosen than the
    pool shall keep, and some of them may leave. ``wait_seconds``, ``evict_wait_seconds``: until a selection, and what
    makes room, may be tried again.
    """

    unread: tuple[Candidate, ...] = ()
    aside: tuple[Candidate, ...] = ()
    due: bool = False
    leaving: tuple[Digest, ...] = ()
    entering: tuple[Candidate, ...] = ()
    lacking: tuple[Digest, ...] = ()
    crowded: bool = False
    wait_seconds: float = 0.0
    evict_wait_seconds: float = 0.0

    @property
    def reached(self) -> bool:
        """Whether the merge is what was selected last."""
        return not (self.leaving or self.entering or self.lacking)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """What can be chosen now. ``readable``: by content, ``unread`` and ``aside`` as in ``Standing``.

    ``complete`` False: what is not here may still be there, because a registry did not answer yet or entries of it have
    not settled. Nothing is selected then, and nothing enters out of turn.
    """

    readable: Mapping[Digest, Candidate]
    unread: tuple[Candidate, ...] = ()
    aside: tuple[Candidate, ...] = ()
    complete: bool = True


def standing(
    newest: Selected | None, objective: str, members: Mapping[Digest, Terms], pool: Pool, *,
    withdrawn: Collection[Digest] = (), evicted: Collection[Digest] = (), limit: int | None = None,
) -> Standing:  # fmt: skip
    """Compare the merge and the pool with the newest selection (None: there was none yet).

    ``objective``: digest of what is asked now. ``members``: what is in the merge. ``withdrawn``: contents that an
    operator took out. ``evicted``: contents that left because the pool was too large, since the newest selection; they
    had no weight in it, so without them it is still the one to carry out. ``limit``: how many the pool keeps.
    """
    target = target_of(newest) if newest is not None else {}
    absent = [content for content in target if content not in members]
    here = pool.readable if pool.complete else {}
    return Standing(
        unread=pool.unread,
        aside=pool.aside,
        due=pool.complete and _is_due(newest, objective, {*pool.readable, *evicted}),
        leaving=()
        if newest is None
        else tuple(content for content, terms in members.items() if target.get(content) != terms),
        entering=tuple(
            entrant(here[content], content, target[content], again=content in withdrawn)
            for content in absent
            if content in here
        ),
        lacking=tuple(content for content in absent if content not in here and content not in withdrawn),
        crowded=limit is not None and len(here) > limit and not here.keys() <= kept(newest, members),
    )


def kept(newest: Selected | None, members: Collection[Digest]) -> set[Digest]:
    """Who stays in the pool however large it is: what is in the merge, and what the newest selection gives weight."""
    return {*members, *(target_of(newest) if newest is not None else ())}


def _is_due(newest: Selected | None, objective: str, contents: Collection[Digest]) -> bool:
    if newest is None:
        return bool(contents)
    return (newest.objective, newest.pool) != (objective, pool_digest(contents))


def entrant(candidate: Candidate, content: Digest, terms: Terms, *, again: bool = False) -> Candidate:
    """The candidate as it is folded. Its content is promised, because it was chosen for that content.

    ``again``: the operator took the content out once, and asked for it since; so that does not stand in the way.
    """
    forced = candidate.forced or again
    return replace(candidate, weight=terms.weight, profile=terms.profile, content=content, forced=forced)


def target_of(selected: Selected) -> dict[Digest, Terms]:
    """What a selection wants in the merge, in the order of folding."""
    return {
        Digest(entry["content"]): Terms(float(entry["weight"]), tuple(sorted(entry.get("profile", {}).items())))
        for entry in selected.target
    }


def terms_of(member: Member) -> Terms:
    """With what a contribution entered the merge."""
    return Terms(member.weight, tuple(sorted(member.profile.items())))


def in_pool(outcome: ContributionFact | None) -> bool:
    """Whether a revision can be chosen, by the newest fact about it: seen, and not refused, held back or taken out."""
    return isinstance(outcome, Discovered | Folded | Duplicate | Deselected | Released)


def pool_digest(contents: Iterable[Digest]) -> Digest:
    """Identity of a pool: equal exactly where the contents are."""
    return _digest({"pool": sorted(contents)})


def objective_digest(asked: Mapping[str, object]) -> Digest:
    """Identity of what is asked of the pool: the plug-in and the settings of the selector, as JSON values."""
    return _digest({"objective": asked})


def _digest(value: Mapping[str, object]) -> Digest:
    text = canonical(value).encode("ascii")
    return Digest("blake2b:" + blake2b(text, digest_size=32, person=_SELECTION).hexdigest())
