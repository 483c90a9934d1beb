"""How far a merge is from what was selected, by values alone."""

from __future__ import annotations

from dataclasses import replace

from mergenode.ledger.records import Selected
from mergenode.ledger.selection import Pool, Terms, in_pool, objective_digest, pool_digest, standing, target_of
from mergenode.types import Candidate
from tests.support.facts import deselected, digest, discovered, duplicate, folded, rejected, retracted, selected

ONE, TWO, THREE = (digest(number) for number in (1, 2, 3))
ASKED = "blake2b:01"


def candidate(number: int) -> Candidate:
    return Candidate("inbox", f"m{number}", f"r{number}", f"/inbox/m{number}", weight=7.0)


def pool(*numbers: int, complete: bool = True) -> Pool:
    return Pool(readable={digest(number): candidate(number) for number in numbers}, complete=complete)


NEWEST = selected(m1=0.5, m2=0.25, m3=0.0)
REACHED = {ONE: Terms(0.5), TWO: Terms(0.25)}


def test_a_merge_that_is_what_was_selected_is_reached_and_nothing_is_due() -> None:
    now = standing(NEWEST, ASKED, REACHED, pool(1, 2, 3))
    assert now.reached and not now.due and not (now.leaving or now.entering or now.lacking)


def test_what_is_missing_enters_with_its_weight_in_the_order_of_the_selection() -> None:
    now = standing(NEWEST, ASKED, {}, pool(3, 2, 1))
    assert [(entry.name, entry.weight, entry.content, entry.forced) for entry in now.entering] == [
        ("m1", 0.5, ONE, False), ("m2", 0.25, TWO, False),
    ]  # fmt: skip
    assert not now.reached


def test_what_was_retracted_once_and_asked_for_since_is_no_longer_refused() -> None:
    now = standing(NEWEST, ASKED, {}, pool(1, 2, 3), withdrawn={TWO})
    assert [entry.forced for entry in now.entering] == [False, True]


def test_what_has_another_weight_leaves_and_is_not_folded_before_it_left() -> None:
    now = standing(NEWEST, ASKED, {ONE: Terms(0.4), TWO: Terms(0.25), THREE: Terms(1.0)}, pool(1, 2, 3))
    assert now.leaving == (ONE, THREE) and now.entering == ()
    assert standing(NEWEST, ASKED, {**REACHED, ONE: Terms(0.5, (("a.*", 0.5),))}, pool(1, 2, 3)).leaving == (ONE,)


def test_another_pool_or_another_question_makes_a_selection_due() -> None:
    assert standing(NEWEST, ASKED, REACHED, pool(1, 2)).due
    assert standing(NEWEST, ASKED, REACHED, pool(1, 2, 3, 4)).due
    assert standing(NEWEST, "blake2b:02", REACHED, pool(1, 2, 3)).due
    assert not standing(NEWEST, ASKED, REACHED, pool(1, 2, complete=False)).due, "a registry may have the third"


def test_who_was_evicted_since_makes_no_selection_due() -> None:
    assert not standing(NEWEST, ASKED, REACHED, pool(1, 2), evicted={THREE}).due
    assert not standing(NEWEST, ASKED, REACHED, pool(1, 2, 3), evicted={THREE}).due, "it is back"
    assert standing(NEWEST, ASKED, REACHED, pool(1, 2, 4), evicted={THREE}).due


def test_a_pool_is_crowded_when_more_than_may_stay_could_leave() -> None:
    def crowded(*numbers: int, limit: int | None, complete: bool = True) -> bool:
        return standing(NEWEST, ASKED, REACHED, pool(*numbers, complete=complete), limit=limit).crowded

    assert crowded(1, 2, 3, limit=2) and crowded(1, 2, 3, limit=1)
    assert not crowded(1, 2, 3, limit=3) and not crowded(1, 2, 3, limit=None)
    assert not crowded(1, 2, 3, limit=2, complete=False)
    assert not crowded(1, 2, limit=1), "both have weight"
    old = standing(None, ASKED, {ONE: Terms(1.0), TWO: Terms(1.0)}, pool(1, 2), limit=1)
    assert not old.crowded, "what is in the merge stays"


def test_nothing_enters_out_of_turn_while_the_pool_is_not_known_whole() -> None:
    now = standing(NEWEST, ASKED, {}, pool(2, 3, complete=False))
    assert now.entering == () and now.lacking == (ONE, TWO) and not now.due and not now.reached


def test_the_first_selection_is_due_when_there_is_something_to_choose_from() -> None:
    assert not standing(None, ASKED, {}, pool()).due
    first = standing(None, ASKED, {ONE: Terms(1.0)}, pool(1))
    assert first.due and first.reached, "what was folded before is left alone until something is selected"


def test_what_was_selected_and_is_gone_keeps_the_merge_from_being_published_unless_an_operator_took_it() -> None:
    merge = {TWO: Terms(0.25)}
    now = standing(NEWEST, ASKED, merge, pool(2, 3))
    assert now.lacking == (ONE,) and not now.reached and now.due
    assert standing(NEWEST, ASKED, merge, pool(2, 3), withdrawn={ONE}).reached


def test_the_pool_holds_what_was_seen_and_neither_refused_nor_taken_out() -> None:
    assert all(map(in_pool, (discovered(), folded(), duplicate(), deselected())))
    assert not any(map(in_pool, (None, rejected(), retracted())))


def test_targets_come_back_from_the_fact_as_they_were() -> None:
    fact: Selected = replace(NEWEST, target=({**NEWEST.target[0], "profile": {"b.*": 0.5, "a.*": 0.0}},))
    assert target_of(fact) == {ONE: Terms(0.5, (("a.*", 0.0), ("b.*", 0.5)))}


def test_identities_depend_on_what_they_are_of_alone() -> None:
    assert pool_digest([ONE, TWO]) == pool_digest([TWO, ONE]) != pool_digest([ONE])
    assert objective_digest({"a": 1, "b": 2}) == objective_digest({"b": 2, "a": 1}) != objective_digest({"a": 1})
