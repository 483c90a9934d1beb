"""Steps and line search: exact on quadratics, never worse than standing still."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.selectors.steps import line_candidates, lowest, refined, schedule_step, short_step


def test_the_schedule_is_that_of_the_theory() -> None:
    assert [schedule_step(number) for number in range(3)] == [1.0, 2 / 3, 0.5]


def test_the_short_step_minimises_the_upper_bound() -> None:
    assert short_step(gap=1.0, smoothness=2.0, distance_sq=4.0) == 1 / 8
    assert short_step(gap=100.0, smoothness=2.0, distance_sq=4.0) == 1.0
    assert short_step(gap=100.0, smoothness=2.0, distance_sq=4.0, gamma_max=0.25) == 0.25


def test_a_direction_without_length_is_gone_in_whole() -> None:
    assert short_step(gap=1.0, smoothness=2.0, distance_sq=0.0, gamma_max=0.5) == 0.5


@pytest.mark.parametrize("gamma_max", [1.0, 0.3, 1e-9])
def test_candidates_rise_from_standing_still_to_the_end(gamma_max: float) -> None:
    candidates = line_candidates(gamma_max)
    assert candidates[0] == 0.0
    assert candidates[-1] == gamma_max
    assert list(candidates) == sorted(set(candidates))


@given(st.floats(1e-4, 0.999), st.floats(0.1, 100.0), st.floats(-5, 5))
@settings(deadline=None)
def test_the_parabola_finds_the_minimum_of_a_quadratic(minimum: float, bend: float, height: float) -> None:
    gammas = list(line_candidates(1.0))
    losses = [bend * (gamma - minimum) ** 2 + height for gamma in gammas]
    finer = refined(gammas, losses)
    if finer is None:  # a candidate is the minimum
        assert min(losses) == pytest.approx(height, abs=1e-6)
    else:
        assert finer == pytest.approx(minimum, abs=1e-6)


def test_without_a_minimum_between_there_is_nothing_to_refine() -> None:
    assert refined([0.0, 0.5, 1.0], [3.0, 2.0, 1.0]) is None
    assert refined([0.0, 0.5, 1.0], [0.0, 2.0, 3.0]) is None
    assert refined([0.0, 0.5, 1.0], [0.0, nan, 3.0]) is None


def test_losses_that_are_no_numbers_are_passed_over() -> None:
    assert lowest([0.0, 0.5, 1.0], [2.0, nan, 1.0]) == 1.0
    assert lowest([0.0, 0.5, 1.0], [2.0, 2.0, inf]) == 0.0
    assert lowest([0.0, 0.5], [nan, nan]) == 0.0
