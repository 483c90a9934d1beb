"""The short list never loses the best, and is no longer than intervals make it."""

from __future__ import annotations

from math import inf, nan
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.selectors.shortlist import bound_confidence, shortlist, unread

Pool = dict[str, tuple[float, float, float]]
"""Content -> true score, bound of the error, and where in the bound the error is."""

names = st.text("0123456789abcdef", min_size=4, max_size=4)
numbers = st.floats(-100, 100, allow_nan=False)
pools = st.dictionaries(names, st.tuples(numbers, st.floats(0, 50), st.floats(-1, 1)), min_size=1, max_size=12)


def best(truth: dict[str, float], wanted: int) -> list[str]:
    return sorted(truth, key=lambda vertex: (truth[vertex], vertex))[:wanted]


def seen(pool: Pool) -> tuple[dict[str, float], ...]:
    """True scores, estimates, bounds that hold in spite of rounding."""
    truth = {vertex: score for vertex, (score, _, _) in pool.items()}
    estimates = {vertex: score + place * bound for vertex, (score, bound, place) in pool.items()}
    return truth, estimates, {vertex: bound * (1 + 1e-9) + 1e-9 for vertex, (_, bound, _) in pool.items()}


@given(pools, st.integers(1, 5))
@settings(deadline=None)
def test_the_best_are_never_lost_while_errors_are_within_their_bounds(pool: Pool, wanted: int) -> None:
    truth, estimates, bounds = seen(pool)
    assert set(best(truth, wanted)) <= set(shortlist(estimates, bounds, wanted))


@given(pools)
@settings(deadline=None)
def test_below_the_ceiling_the_best_is_never_lost(pool: Pool) -> None:
    truth, estimates, bounds = seen(pool)
    first = best(truth, 1)[0]
    listed = shortlist(estimates, bounds, 1, ceiling=0.0)
    assert first in listed or truth[first] > 0.0


@given(pools, st.integers(1, 5))
@settings(deadline=None)
def test_each_on_the_list_could_be_among_the_best(pool: Pool, wanted: int) -> None:
    """No shorter list is safe: with its lower end true and the others' upper ends, each would be wanted."""
    _, estimates, bounds = seen(pool)
    for vertex in shortlist(estimates, bounds, wanted):
        lower = estimates[vertex] - bounds[vertex]
        better = sum(estimates[other] + bounds[other] < lower for other in estimates if other != vertex)
        assert better < wanted


@given(pools, st.integers(1, 4))
@settings(deadline=None)
def test_reading_one_by_one_ends_with_the_best(pool: Pool, wanted: int) -> None:
    truth, estimates, bounds = seen(pool)
    exact: dict[str, float] = {}
    while left := unread(estimates, bounds, exact, wanted):
        exact[left[0]] = truth[left[0]]
    assert best(exact, wanted) == best(truth, wanted)
    assert set(exact) <= set(shortlist(estimates, bounds, wanted))


@given(pools, st.integers(1, 4), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_the_pool_changes_nothing(pool: Pool, wanted: int, shuffle: Random) -> None:
    _, estimates, bounds = seen(pool)
    order = list(estimates)
    shuffle.shuffle(order)
    assert shortlist({vertex: estimates[vertex] for vertex in order}, bounds, wanted) == shortlist(
        estimates, bounds, wanted
    )


def test_exact_estimates_leave_the_best_alone() -> None:
    estimates = {"a": 3.0, "b": -1.0, "c": 2.0}
    assert shortlist(estimates, dict.fromkeys(estimates, 0.0), 1) == ("b",)


def test_equal_scores_are_all_read() -> None:
    estimates = {"a": 1.0, "b": 1.0, "c": 2.0}
    assert shortlist(estimates, dict.fromkeys(estimates, 0.0), 1) == ("a", "b")


@pytest.mark.parametrize(("estimate", "error"), [(nan, 1.0), (inf, 1.0), (50.0, nan), (50.0, inf), (50.0, -1.0)])
def test_what_says_nothing_is_read(estimate: float, error: float) -> None:
    assert set(shortlist({"a": 0.0, "b": estimate}, {"a": 0.0, "b": error}, 1)) == {"a", "b"}


def test_without_a_bound_it_is_read() -> None:
    assert shortlist({"a": 0.0, "b": 50.0}, {"a": 0.0}, 1) == ("b", "a")


def test_what_has_weight_is_always_read() -> None:
    estimates = {"a": -1.0, "b": 9.0}
    assert shortlist(estimates, dict.fromkeys(estimates, 0.1), 1, always=["b", "gone"]) == ("a", "b")


def test_more_than_there_are_is_all() -> None:
    assert shortlist({"a": 0.0, "b": 9.0}, {"a": 0.1, "b": 0.1}, 5) == ("a", "b")
    assert shortlist({}, {}, 1) == ()
    assert shortlist({"a": 0.0}, {"a": 0.0}, 0) == ()


def test_confidence_of_all_is_shared_among_the_bounds() -> None:
    single = bound_confidence(0.95, 1000)
    assert 1000 * (1 - single) == pytest.approx(0.05)
    assert bound_confidence(0.95, 0) == pytest.approx(0.95)
