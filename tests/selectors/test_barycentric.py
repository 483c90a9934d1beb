"""Weights when vertices come and go."""

from __future__ import annotations

from math import fsum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.errors import UsageError
from mergenode.selectors.barycentric import by_groups, difference, settled, trimmed, warm_start, without
from mergenode.selectors.contract import WHOLE, State, Vanished, base_weight
from tests.support.hulls import quadratic

STATE = State({"x": {"a": 0.5, "b": 0.25}, "y": {"b": 1.0}}, 7)

weights = st.dictionaries(st.sampled_from("abcdef"), st.floats(0.01, 1.0)).map(
    lambda drawn: {vertex: value / (fsum(drawn.values()) + 0.3) for vertex, value in drawn.items()}
)


def test_what_goes_leaves_its_weight_to_the_base() -> None:
    assert without(STATE, ["b"]) == State({"x": {"a": 0.5}}, 7)
    assert without(STATE, ["b", "other"]) == without(STATE, ["b"])
    assert without(without(STATE, ["b"]), ["b"]) == without(STATE, ["b"])


def test_or_to_all_that_stay_in_proportion() -> None:
    """The base has 1/4 of x, and grows like the others; of y nothing stays, so the base has all."""
    assert without(STATE, ["b"], vanished="renormalised") == State({"x": {"a": pytest.approx(2 / 3)}}, 7)


@given(weights, st.sets(st.sampled_from("abcdef")), st.sampled_from(["base", "renormalised"]))
@settings(deadline=None)
def test_the_result_is_on_the_simplex(held: dict[str, float], gone: set[str], vanished: Vanished) -> None:
    after = without(State({WHOLE: held}), gone, vanished=vanished).of(WHOLE)
    assert set(after) == set(held) - gone
    assert fsum(after.values()) <= 1.0 + 1e-12
    if vanished == "base":
        assert after == {vertex: weight for vertex, weight in held.items() if vertex not in gone}
    elif after:  # proportions stay, that to the base too
        scale = base_weight(after) / base_weight(held)
        assert after == pytest.approx({vertex: scale * held[vertex] for vertex in after})


def test_a_pool_that_only_shrinks_goes_on_where_it_was() -> None:
    assert warm_start(STATE, ["a"], known=["a", "b"]) == State({"x": {"a": 0.5}}, 7)
    assert warm_start(STATE, ["a", "b", "c"], known=["a", "b", "c"]) == STATE


def test_a_newcomer_can_get_half() -> None:
    assert warm_start(STATE, ["a", "b", "c"], known=["a", "b"]) == State(STATE.weights, 2)
    assert warm_start(State(round=1), ["c"]).round == 1


def test_a_selection_goes_on_by_group() -> None:
    problem = quadratic(0, groups={"x": slice(0, 2), "y": slice(2, None)})
    whole = State({WHOLE: dict.fromkeys(sorted(problem.taus)[:2], 0.3)}, 4)
    split = by_groups(whole, problem.groups)
    assert problem.theta(split.weights) == pytest.approx(problem.theta(whole.weights), abs=1e-15)
    assert split.round == 4
    assert by_groups(State(), ["x"]) == State()
    with pytest.raises(UsageError, match="by layer group already"):
        by_groups(split, ["z"])


def test_crumbs_are_left_to_the_base() -> None:
    state = State({"x": {"a": 0.5, "b": 0.004}, "y": {"b": 0.7}}, 3)
    assert trimmed(state, 0.01) == State({"x": {"a": 0.5}, "y": {"b": 0.7}}, 3)
    assert trimmed(state, 0.01, vanished="renormalised").of("x") == {"a": pytest.approx(0.5 / 0.996)}


def test_a_difference_of_weights_is_a_direction() -> None:
    problem = quadratic(1)
    first, second = sorted(problem.taus)[:2]
    before, after = State({WHOLE: {first: 0.5}}), State({WHOLE: {first: 0.25, second: 0.5}})
    change = difference(after.weights, before.weights)
    assert change == {WHOLE: {first: -0.25, second: 0.5}}
    moved = problem.theta(after.weights) - problem.theta(before.weights)
    assert problem.distances(change)[WHOLE] == pytest.approx(float(moved @ moved))
    assert difference(before.weights, before.weights) == {WHOLE: {}}


def test_rounding_does_not_leave_a_base_behind() -> None:
    thirds = settled({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3 - 1e-14, "d": 0.0})
    assert base_weight(thirds) == 0.0
    assert fsum(thirds.values()) == pytest.approx(1.0, abs=1e-16)
    assert base_weight({"a": 1.0 - 1e-9}) == pytest.approx(1e-9)
