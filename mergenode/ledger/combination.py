"""How the merges of two ledgers become one: decided from values, before any statistics are read.

Every contribution enters once. What both merges hold is told apart by content, not by name: its share has to leave one
of the two before they are added up. Where the decision is free it does not depend on which ledger was named first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from mergenode.ledger.chain import lineage_combined, lineage_without
from mergenode.ledger.records import Admitted, Initialised, Member, Retracted
from mergenode.types import Digest, Head

Withdrawn = tuple[Admitted, Retracted]
"""What once was in a merge, and the fact by which it left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two ledgers: what is in its merge, in order, and what was taken out of it."""

    origin: Initialised
    head: Head
    members: tuple[Admitted, ...]
    withdrawn: tuple[Withdrawn, ...] = ()

    def by_content(self) -> dict[Digest, Admitted]:
        return {member.content: member for member in self.members}


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """The merge of both sides, as facts. ``taken``: the side whose statistics are the result; None: both are summed.

    ``reduced``: the side that ``leaving`` leaves first, with the weights it has there; None when nothing has to.
    ``overlapping``: what is in both and may stay in both, because the method counts it once; the totals of ``reduced``
    are those without it.
    ``uneven``: contents with two weights, those of A and of B; the first counts.
    ``contested``: withdrawn from one side, but in the other and so in the result.
    """

    sides: tuple[Side, Side]
    admitted: tuple[Admitted, ...]
    lineage: Digest
    taken: int | None = None
    reduced: int | None = None
    leaving: tuple[Admitted, ...] = ()
    overlapping: tuple[Admitted, ...] = ()
    uneven: tuple[tuple[Admitted, Admitted], ...] = ()
    withdrawn: tuple[Withdrawn, ...] = ()
    contested: tuple[Withdrawn, ...] = ()

    @property
    def shared(self) -> int:
        """How many contributions both sides hold."""
        return sum(len(side.members) for side in self.sides) - len(self.admitted)


@dataclass(frozen=True, slots=True)
class Inseparable:
    """Both sides hold these, and the method can neither take them out of one nor count them once."""

    shared: tuple[Admitted, ...]
    uneven: bool


def admitted_from(member: Member, origin: str, time: str) -> Admitted:
    """The fact by which a member of the ledger ``origin`` enters another one; what was admitted keeps its origin."""
    if isinstance(member, Admitted):
        return replace(member, time=time)
    return Admitted(
        time=time,
        registry=member.registry,
        name=member.name,
        revision=member.revision,
        origin=origin,
        location=member.location,
        content=member.content,
        contribution_kind=member.contribution_kind,
        weight=member.weight,
        norm=member.norm,
        relative_norm=member.relative_norm,
        profile=member.profile,
    )


def first_difference(left: Initialised, right: Initialised) -> str | None:
    """Why merges of two ledgers cannot be added up, in words; None when base, method and options are the same."""
    if left.base != right.base:
        return f"one was made for the base {left.base}, the other for {right.base}"
    if left.method != right.method:
        return f"one was made with method {left.method}, the other with {right.method}"
    for name in sorted({*left.options, *right.options}):
        values = [repr(side.options[name]) if name in side.options else "not set" for side in (left, right)]
        if values[0] != values[1]:
            return f"option {name} of {left.method} is {values[0]} in one and {values[1]} in the other"
    return None


def plan_combination(a: Side, b: Side, *, retractable: bool, idempotent: bool) -> Combination | Inseparable:
    """What has to be done to make one merge of the two. At least one of them holds a contribution."""
    sides, inside = (a, b), (a.by_content(), b.by_content())
    both = [content for content in inside[0] if content in inside[1]]
    uneven = tuple(pair for content in both if _uneven(*(pair := (inside[0][content], inside[1][content]))))
    withdrawn, contested = _withdrawn(sides, {**inside[1], **inside[0]})
    made = partial(
        Combination,
        sides=sides,
        admitted=(*a.members, *(member for member in b.members if member.content not in inside[0])),
        uneven=uneven,
        withdrawn=withdrawn,
        contested=contested,
    )
    whole = _whole(sides, len(both), even=not uneven)
    if whole is not None and (lineage := sides[whole].head.lineage) is not None:
        return made(taken=whole, lineage=lineage)
    lineages = [side.head.lineage for side in sides]
    if not both:
        return made(lineage=lineage_combined(lineages))
    reduced = 1 if uneven else _last(sides)
    common = tuple(member for member in sides[reduced].members if member.content in inside[1 - reduced])
    if idempotent and not uneven:
        return made(lineage=lineage_combined(lineages), reduced=reduced, overlapping=common)
    if not retractable:
        return Inseparable(common, bool(uneven))
    lineages[reduced] = lineage_without(lineages[reduced], both)
    return made(lineage=lineage_combined(lineages), reduced=reduced, leaving=common)


def _whole(sides: tuple[Side, Side], both: int, *, even: bool) -> int | None:
    """The side that holds everything there is, with the weights that count; None when there is no such side."""
    sizes = [len(side.members) for side in sides]
    if even and sizes == [both, both]:
        return 1 - _last(sides)
    if sizes[1] == both:
        return 0
    return 1 if even and sizes[0] == both else None


def _last(sides: tuple[Side, Side]) -> int:
    """The same one of the two, whichever is named first."""
    return 1 if (sides[0].head.statistics or "") <= (sides[1].head.statistics or "") else 0


def _uneven(left: Member, right: Member) -> bool:
    """Whether one contribution entered two merges with different weights."""
    return (left.weight, dict(left.profile)) != (right.weight, dict(right.profile))


def _withdrawn(
    sides: tuple[Side, Side], inside: Mapping[Digest, Admitted]
) -> tuple[tuple[Withdrawn, ...], tuple[Withdrawn, ...]]:
    """What stays out of the result, each content once, and what is in it although one side took it out."""
    found = {member.content: (member, fact) for side in reversed(sides) for member, fact in side.withdrawn}
    gone = tuple(pair for content, pair in found.items() if content not in inside)
    return gone, tuple(pair for content, pair in found.items() if content in inside)


def facts_of(combination: Combination) -> Iterator[Admitted | Retracted]:
    """The members of the new ledger, A's first; then what was withdrawn, in and out again, so that it stays out."""
    yield from combination.admitted
    for member, fact in combination.withdrawn:
        yield member
        yield fact
