"""The short list never loses the best, and is no longer than intervals make it."""

from __future__ import annotations

from math import inf, nan
from random import Random
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.selectors.shortlist import reach, unread

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


def read_all(pool: Pool, wanted: int, at_once: int, ceiling: float = inf) -> dict[str, float]:
    """What is known exactly when nothing is left to read."""
    truth, estimates, bounds = seen(pool)
    exact: dict[str, float] = {}
    while left := unread(estimates, bounds, exact, wanted, ceiling=ceiling):
        assert not set(left) & set(exact)
        exact |= {vertex: truth[vertex] for vertex in left[:at_once]}
    return exact


@given(pools, st.integers(1, 5), st.integers(1, 6))
@settings(deadline=None)
def test_the_best_are_never_lost_while_errors_are_within_their_bounds(pool: Pool, wanted: int, at_once: int) -> None:
    truth, _, _ = seen(pool)
    assert best(read_all(pool, wanted, at_once), wanted) == best(truth, wanted)


@given(pools, st.integers(1, 3))
@settings(deadline=None)
def test_only_too_high_estimates_of_the_best_can_lose_them(pool: Pool, wanted: int) -> None:
    """Errors of all others may be anything, and estimates may be too low by anything."""
    truth, estimates, bounds = seen(pool)
    for vertex in truth:
        if vertex not in best(truth, wanted):
            estimates[vertex] += 1000.0 * (1 if estimates[vertex] > truth[vertex] else -1)
        elif estimates[vertex] < truth[vertex]:
            estimates[vertex] -= 1000.0
    exact: dict[str, float] = {}
    while left := unread(estimates, bounds, exact, wanted):
        exact[left[0]] = truth[left[0]]
    assert best(exact, wanted) == best(truth, wanted)


@given(pools, st.integers(1, 3))
@settings(deadline=None)
def test_below_the_ceiling_the_best_are_never_lost(pool: Pool, wanted: int) -> None:
    truth, _, _ = seen(pool)
    useful = {vertex: score for vertex, score in truth.items() if score <= 0.0}
    found = {vertex: score for vertex, score in read_all(pool, wanted, 1, 0.0).items() if score <= 0.0}
    assert best(found, wanted) == best(useful, wanted)


@given(pools, st.integers(1, 5))
@settings(deadline=None)
def test_each_on_the_list_could_be_among_the_best(pool: Pool, wanted: int) -> None:
    """No shorter list is safe: with its lower end true, each would displace one that was read."""
    truth, estimates, bounds = seen(pool)
    exact = {vertex: truth[vertex] for vertex in best(truth, wanted + 1)[1:]}
    for vertex in unread(estimates, bounds, exact, wanted):
        better = sum(score < estimates[vertex] - bounds[vertex] for score in exact.values())
        assert better < wanted


@given(pools, st.integers(1, 4), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_the_pool_changes_nothing(pool: Pool, wanted: int, shuffle: Random) -> None:
    _, estimates, bounds = seen(pool)
    order = list(estimates)
    shuffle.shuffle(order)
    assert unread({vertex: estimates[vertex] for vertex in order}, bounds, {}, wanted) == unread(
        estimates, bounds, {}, wanted
    )


def test_with_exact_estimates_one_reading_is_enough() -> None:
    estimates = {"a": 3.0, "b": -1.0, "c": 2.0}
    none = dict.fromkeys(estimates, 0.0)
    assert unread(estimates, none, {}, 1) == ("b", "c", "a")
    assert unread(estimates, none, {"b": -1.0}, 1) == ()


def test_equal_scores_are_all_read() -> None:
    estimates = {"a": 1.0, "b": 1.0, "c": 2.0}
    assert unread(estimates, dict.fromkeys(estimates, 0.0), {"a": 1.0}, 1) == ("b",)


@pytest.mark.parametrize(("estimate", "error"), [(nan, 1.0), (inf, 1.0), (50.0, nan), (50.0, inf), (50.0, -1.0)])
def test_what_says_nothing_is_read(estimate: float, error: float) -> None:
    assert unread({"a": 0.0, "b": estimate}, {"a": 0.0, "b": error}, {"a": 0.0}, 1) == ("b",)


def test_without_a_bound_it_is_read() -> None:
    assert unread({"a": 0.0, "b": 50.0}, {"a": 0.0}, {"a": 0.0}, 1) == ("b",)


def test_more_than_there_are_is_all() -> None:
    assert unread({"a": 0.0, "b": 9.0}, {"a": 0.1, "b": 0.1}, {"a": 0.0}, 5) == ("b",)
    assert unread({}, {}, {}, 1) == ()
    assert unread({"a": 0.0}, {"a": 0.0}, {}, 0) == ()


def test_the_reach_shares_what_may_go_wrong_among_the_best() -> None:
    above = 1.0 - NormalDist().cdf(reach(0.99, 10))
    assert 10 * above == pytest.approx(0.01)
    assert reach(0.95, 0) == pytest.approx(reach(0.95, 1))


def test_noise_of_normal_errors_loses_the_best_as_rarely_as_it_says() -> None:
    draw, lost = Random(0), 0
    for _ in range(400):
        truth = {f"{number:03d}": draw.gauss(0.0, 3.0) for number in range(200)}
        estimates = {vertex: score + draw.gauss(0.0, 1.0) for vertex, score in truth.items()}
        errors, exact = dict.fromkeys(truth, reach(0.9, 5)), dict[str, float]()
        while left := unread(estimates, errors, exact, 5):
            exact |= {vertex: truth[vertex] for vertex in left[:8]}
        lost += best(exact, 5) != best(truth, 5)
    assert 0 < lost < 40
