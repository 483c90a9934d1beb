"""The life of one contribution, from the facts about it and those about versions: what happened, when, after how long.

Only what facts say is told: a step that left no fact, such as the first sight of a half-copied entry, is in no life.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from mergenode.ledger.records import ContributionFact, Fact, Folded, Left, Member, Published

Numbered = tuple[int, Fact]
"""Sequence number and fact."""

READ, JUDGED, PUBLISHED, PUBLISHED_WITHOUT = "read", "judged", "published", "published without it"


@dataclass(frozen=True, slots=True)
class Moment:
    """``what``: the kind of the fact, or one of the names above for what follows from it. ``time``: seconds since 1970.

    ``after``: seconds since the moment before, 0 for the first.
    """

    what: str
    time: float
    after: float
    sequence: int
    fact: Fact


def key_of(fact: ContributionFact) -> tuple[str, str, str]:
    """registry, name, revision"""
    return (fact.registry, fact.name, fact.revision)


def life_of(facts: Iterable[Numbered], versions: Sequence[Numbered]) -> tuple[Moment, ...]:
    """``facts``: about one contribution, ascending. ``versions``: all ``published`` facts, ascending.

    A fold is three moments (when it began to read, when it was judged, when it was committed), because the ledger says
    how long it took. A version belongs to what entered or left before it and to no later change.
    """
    told: list[tuple[float, int, str, Fact]] = []
    changes: list[Numbered] = []
    for sequence, fact in facts:
        at = _unix(fact.time)
        if isinstance(fact, Folded):
            told.append((at - fact.seconds, sequence, READ, fact))
            told += [(at, sequence, JUDGED, fact)] if fact.findings else []
        told.append((at, sequence, fact.kind, fact))
        if isinstance(fact, Member | Left):
            changes.append((sequence, fact))
    for place, (sequence, change) in enumerate(changes):
        ends = changes[place + 1][0] if place + 1 < len(changes) else None
        told += _first_version(sequence, change, ends, versions)
    moments: list[Moment] = []
    # By time, so that a life reads well; a clock that was set back shows as a negative time between.
    for time, sequence, what, fact in sorted(told, key=lambda entry: (entry[1], entry[0])):
        after = time - moments[-1].time if moments else 0.0
        moments.append(Moment(what, time, after, sequence, fact))
    return tuple(moments)


def _first_version(
    sequence: int, change: Fact, ends: int | None, versions: Sequence[Numbered]
) -> list[tuple[float, int, str, Fact]]:
    """The first version after a change, unless the next change came before it."""
    for number, fact in versions:
        if number > sequence and isinstance(fact, Published) and fact.round is None:
            if ends is not None and number > ends:
                return []
            what = PUBLISHED_WITHOUT if isinstance(change, Left) else PUBLISHED
            return [(_unix(fact.time), number, what, fact)]
    return []


def _unix(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
