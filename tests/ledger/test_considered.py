"""What a selection made of one content."""

from __future__ import annotations

from dataclasses import replace

from mergenode.ledger.considered import CHOSEN, UNLISTED, Considered, considered, left_out_message, marks
from mergenode.types import Digest
from tests.support.facts import digest, selected

FACT = selected(m1=0.5, m2=0.0)


def test_whoever_is_listed_has_its_reason_and_score() -> None:
    assert considered(FACT, digest(1)) == Considered(CHOSEN, -0.05)
    assert considered(FACT, digest(2)) == Considered("useless", 0.0)
    found = considered(FACT, digest(2))
    assert found is not None and found.left_out
    assert left_out_message(FACT, found) == (
        f"it was in the pool of 2 at the selection of {FACT.time} and has no weight in it: would not lower the loss, "
        "score 0"
    )


def test_who_was_in_a_large_pool_is_known_of_everybody() -> None:
    fact = replace(FACT, size=5002, others=marks(digest(number) for number in range(3, 5003)))
    found = considered(fact, digest(4000))
    assert found == Considered(UNLISTED) and "not among the 1 best of those without weight" in left_out_message(
        fact, found
    )
    assert considered(fact, digest(5003)) is None


def test_an_older_fact_knows_only_whom_it_lists() -> None:
    assert considered(replace(FACT, size=5000), digest(4000)) is None


def test_marks_do_not_run_into_each_other() -> None:
    fact = replace(FACT, others=marks([Digest("x:1"), Digest("x:" + "ab" * 20)]))
    assert considered(fact, Digest("x:1")) == Considered(UNLISTED) and considered(fact, Digest("x:11")) is None
    assert considered(fact, Digest("x:" + "ba" * 20)) is None, "half a digit off"
