"""The life of a contribution as its facts tell it."""

from __future__ import annotations

from mergenode.ledger.lives import JUDGED, PUBLISHED, PUBLISHED_WITHOUT, READ, life_of
from mergenode.ledger.records import Retracted
from tests.support import facts

FINDING = {"gate": "norm", "action": "observe", "reason": "", "message": "long", "hint": "", "numbers": {}}


def at(seconds: int) -> str:
    return f"2026-01-02T03:04:{seconds:02d}Z"


def retracted(number: int, time: str) -> Retracted:
    known = facts.folded(number)
    return Retracted(
        time=time, registry=known.registry, name=known.name, revision=known.revision, content=known.content
    )


def test_from_the_first_sight_to_the_version_without_it() -> None:
    about = [
        (2, facts.discovered(1, time=at(1))),
        (3, facts.folded(1, time=at(9), seconds=6.0, findings=(FINDING,))),
        (5, retracted(1, at(20))),
    ]
    versions = [(1, facts.published(1, time=at(0))), (4, facts.published(2, time=at(12))),
                (7, facts.published(3, time=at(21)))]  # fmt: skip
    told = [(moment.what, moment.after, moment.sequence) for moment in life_of(about, versions)]
    assert told == [
        ("discovered", 0.0, 2), (READ, 2.0, 3), (JUDGED, 6.0, 3), ("folded", 0.0, 3), (PUBLISHED, 3.0, 4),
        ("retracted", 8.0, 5), (PUBLISHED_WITHOUT, 1.0, 7),
    ]  # fmt: skip


def test_what_left_before_any_version_was_in_none() -> None:
    about = [(1, facts.folded(1, time=at(9), seconds=1.0)), (2, retracted(1, at(10)))]
    told = [moment.what for moment in life_of(about, [(3, facts.published(1, time=at(11)))])]
    assert told == [READ, "folded", "retracted", PUBLISHED_WITHOUT]


def test_what_was_rejected_has_a_short_life() -> None:
    told = life_of([(1, facts.discovered(2, time=at(1))), (2, facts.rejected(2, time=at(2)))], [])
    assert [(moment.what, moment.after) for moment in told] == [("discovered", 0.0), ("rejected", 1.0)]
    assert life_of([], []) == ()
