"""The two-model quadratic: curves that are known come back, noise is averaged out, the front is that of brute force."""

from __future__ import annotations

import random
from math import exp

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.maths.two_model_fit import (
    IDENTITY,
    LOGIT,
    WeightRule,
    best_weight,
    fit_curve,
    grid,
    pareto,
    settle,
    thinned,
    trial_weights,
)

RULE = WeightRule(lowest=0.1, highest=1.5)
small = st.floats(-2.0, 2.0)


def sigmoid(value: float) -> float:
    return 1.0 / (1.0 + exp(-value))


@given(constant=small, linear=small, quadratic=small)
@settings(deadline=None, max_examples=50)
def test_a_known_quadratic_behind_the_sigmoid_comes_back(constant: float, linear: float, quadratic: float) -> None:
    def score(weight: float) -> float:
        return sigmoid(constant + linear * weight + quadratic * weight**2)

    weights = [0.0, *trial_weights(RULE, 1.0)]
    points = [(weight, score(weight)) for weight in weights]
    curve = fit_curve(points)
    assert curve.link == LOGIT
    if all(0.006 < score < 0.994 for _, score in points):
        assert (curve.constant, curve.linear, curve.quadratic) == pytest.approx((constant, linear, quadratic), abs=1e-8)
        assert curve.residual < 1e-9
        assert curve.at(0.77) == pytest.approx(score(0.77), abs=1e-9)


@given(constant=small, linear=small, quadratic=small)
@settings(deadline=None, max_examples=50)
def test_scores_beyond_0_and_1_are_fitted_as_they_are(constant: float, linear: float, quadratic: float) -> None:
    def score(weight: float) -> float:
        return constant - 5.0 + linear * weight + quadratic * weight**2

    curve = fit_curve([(weight, score(weight)) for weight in (0.0, 0.3, 0.8, 1.5)])
    assert curve.link == IDENTITY
    assert (curve.constant, curve.linear, curve.quadratic) == pytest.approx(
        (constant - 5.0, linear, quadratic), abs=1e-9
    )


def test_saturated_scores_have_finite_curves() -> None:
    curve = fit_curve([(0.0, 0.0), (0.5, 1.0), (1.0, 1.0), (1.5, 1.0)])
    assert all(abs(value) < 100 for value in (curve.constant, curve.linear, curve.quadratic))
    assert 0.0 < curve.at(0.1) < 1.0


def test_noise_is_averaged_out() -> None:
    """The weight from noisy fits lies nearer to the true one, in the mean, than the best of the noisy scores."""
    draw = random.Random(7)
    errors: dict[str, list[float]] = {"fit": [], "best": []}
    for _ in range(200):
        measured = {
            weight: {"a": sigmoid(0.5 + 1.6 * weight - 1.0 * weight**2) + draw.gauss(0, 0.02)}
            for weight in trial_weights(RULE, 1.0)
        }
        before = {"a": sigmoid(0.5) + draw.gauss(0, 0.02)}
        curve = fit_curve([(0.0, before["a"]), *((weight, scores["a"]) for weight, scores in measured.items())])
        found = best_weight({"a": curve}, before, RULE, 1.0)
        assert found is not None
        errors["fit"].append(abs(found - 0.8))
        errors["best"].append(abs(max(measured, key=lambda weight: measured[weight]["a"]) - 0.8))
    assert sum(errors["fit"]) < 0.7 * sum(errors["best"])


@given(own=st.floats(0.01, 3.0), evaluations=st.integers(6, 30))
@settings(deadline=None)
def test_trials_are_within_the_bounds_and_the_budget(own: float, evaluations: int) -> None:
    rule = WeightRule(lowest=0.1, highest=1.5, evaluations=evaluations)
    weights = trial_weights(rule, own)
    assert weights == sorted(set(weights)) and weights[0] == 0.1 and weights[-1] == 1.5
    assert len(weights) + 2 <= evaluations, "one more without the newcomer, one more of what comes out"
    assert own in weights or not 0.1 < own < 1.5


def line(constant: float, linear: float, quadratic: float = 0.0):
    return fit_curve([(weight, constant + linear * weight + quadratic * weight**2) for weight in (0.0, 0.5, 1.0, 1.5)])


def test_the_best_weight_is_that_of_a_search_of_the_grid() -> None:
    curves = {"old": line(-2.0, 0.5, -1.0), "new": line(-3.0, 4.0, -1.5)}
    rule = WeightRule(lowest=0.1, highest=1.5, importance={"old": 3.0, "new": 1.0})
    wanted = max(grid(rule), key=lambda w: (3 * curves["old"].at(w) + curves["new"].at(w)) / 4)
    assert best_weight(curves, {"old": -2.0, "new": -3.0}, rule, 1.0) == wanted
    assert wanted == pytest.approx((1.5 + 4.0) / (2 * 4.5), abs=0.01), "the vertex of 3 old + new"


def test_no_task_falls_further_than_may_be() -> None:
    curves = {"old": line(-2.0, -1.0), "new": line(-3.0, 4.0)}
    before = {"old": -2.0, "new": -3.0}
    free = WeightRule(lowest=0.1, highest=1.5)
    bound = WeightRule(lowest=0.1, highest=1.5, max_fall=0.4)
    assert best_weight(curves, before, free, 1.0) == 1.5
    assert best_weight(curves, before, bound, 1.0) == pytest.approx(0.4, abs=0.008)
    assert best_weight(curves, before, WeightRule(lowest=0.1, highest=1.5, max_fall=0.01), 1.0) is None


def test_of_equal_objectives_the_own_weight_wins() -> None:
    assert best_weight({"a": fit_curve([(0.0, 0.5), (0.7, 0.5), (1.5, 0.5)])}, {"a": 0.5}, RULE, 0.8) == pytest.approx(
        0.8
    )


def test_a_fit_that_does_not_hold_gives_way_to_what_was_measured() -> None:
    curves = {"a": line(-2.0, 1.0, -0.1)}
    measured = {0.5: {"a": -1.0}, 1.0: {"a": -1.5}, 1.4: {"a": -3.0}}
    assert settle(measured, {"a": -2.0}, 1.4, curves, RULE) == 0.5
    assert settle(measured | {1.4: {"a": -1.0}}, {"a": -2.0}, 1.4, curves, RULE) == 1.4
    assert settle(measured, {"a": -2.0}, None, curves, RULE) == 0.5
    bound = WeightRule(lowest=0.1, highest=1.5, max_fall=0.1)
    assert settle(measured, {"a": -0.5}, 1.4, curves, bound) is None
    assert settle(measured, {"a": -1.4}, 0.5, curves, bound) == 0.5


rows = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), max_size=12)


@given(rows)
@settings(deadline=None)
def test_the_front_is_that_of_brute_force(found: list[tuple[int, int, int]]) -> None:
    front = pareto(found)
    kept = {found[number] for number in front}
    for row in found:
        beaten = [other for other in found if other != row and all(b >= a for a, b in zip(row, other, strict=True))]
        assert (row in kept) == (not beaten)
    assert len(kept) == len(front), "of equals one"


def test_thinning_keeps_the_ends() -> None:
    assert thinned(list(range(100)), 4) == [0, 33, 66, 99]
    assert thinned([3, 5], 4) == [3, 5]


def test_an_objective_needs_its_tasks() -> None:
    with pytest.raises(KeyError, match="b"):
        WeightRule(lowest=0.1, highest=1.0, importance={"b": 1.0}).objective({"a": 1.0})
