"""The soft variant: its weights are those of the best point between all that take part."""

from __future__ import annotations

from math import fsum, inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.selectors.contract import BASE, WHOLE, Options, State
from mergenode.selectors.inner_products import per_group
from mergenode.selectors.soft import between, choose, placed, resting, slopes, soft_step, spectral_rate
from tests.support.hulls import Quadratic, quadratic

SOFT = Options(soft=3, inner=60, tolerance=1e-6, rounds=40)


def start_of(problem: Quadratic) -> State:
    return State({WHOLE: dict(zip(sorted(problem.taus), (0.2, 0.3, 0.1), strict=False))})


def points_of(problem: Quadratic, start: State, count: int) -> tuple[str, ...]:
    return choose(start, per_group(problem.scores(start), False), count)[WHOLE]


def test_the_best_that_go_down_join_those_who_have_weight() -> None:
    state = State({WHOLE: {"c": 0.5}})
    table = {WHOLE: {"a": -1.0, "b": 3.0, "c": 2.0, "d": -1.0, "e": 0.5, "f": -0.5}}
    assert choose(state, table, 1) == {WHOLE: (BASE, "c", "a")}
    assert choose(state, table, 9) == {WHOLE: (BASE, "c", "a", "f", "e")}
    assert choose(State({WHOLE: {"c": 1.0}}), table, 3) == {WHOLE: ("c", "a", "f", BASE)}
    assert choose(State(), {WHOLE: {"a": 1.0}}, 3) == {}
    assert choose(state, {WHOLE: {"c": 2.0}}, 3) == {WHOLE: (BASE, "c")}


def test_slopes_are_the_derivatives_in_the_weights() -> None:
    problem = quadratic(8)
    start = start_of(problem)
    points = {WHOLE: points_of(problem, start, 2)}
    size = len(points[WHOLE])
    point, step = tuple(2.0 * (place + 1) / (size * (size + 1)) for place in range(size)), 1e-6
    there = placed(start, points, {WHOLE: point})
    found = slopes(points, per_group(problem.scores(there), False))[WHOLE]
    for place in range(1, size):
        moved = [*point]
        moved[place], moved[0] = moved[place] + step, moved[0] - step
        change = problem.at(placed(start, points, {WHOLE: tuple(moved)})) - problem.at(there)
        assert change / step == pytest.approx(found[place] - found[0], abs=1e-4)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=5), st.floats(0.0, 10.0))
@settings(deadline=None)
def test_a_step_stays_on_the_simplex_and_goes_down(gradient: list[float], rate: float) -> None:
    point = [1.0 / len(gradient)] * len(gradient)
    after = soft_step(point, gradient, rate)
    assert fsum(after) == pytest.approx(1.0)
    assert min(after) >= 0.0
    assert fsum(g * (new - old) for g, new, old in zip(gradient, after, point, strict=True)) <= 1e-12


def test_at_rest_nothing_moves() -> None:
    problem = quadratic(9)
    start = start_of(problem)
    points = {WHOLE: points_of(problem, start, 3)}
    assert placed(start, points, resting(start, points)) == start


def test_the_spectral_rate_is_the_inverse_of_the_curvature() -> None:
    assert spectral_rate({"x": [1.0, -1.0], "y": [2.0]}, {"x": [4.0, -4.0], "y": [8.0]}) == 0.25
    assert spectral_rate({"x": [1.0]}, {"x": [-1.0]}) == inf
    assert spectral_rate({"x": [0.0]}, {"x": [0.0]}) == inf


def test_between_is_a_mixture() -> None:
    assert between({"x": (1.0, 0.0)}, {"x": (0.0, 1.0)}, 0.25) == {"x": (0.75, 0.25)}
