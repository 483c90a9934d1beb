"""Soft rounds: their weights are those of the best point between all that take part."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import fsum, nan

import numpy as np
import pytest
from scipy.optimize import minimize

from mergenode.selectors.contract import BASE, WHOLE, Options, Scores, State, Stop
from mergenode.selectors.inner_products import per_group
from mergenode.selectors.running import one_round, run
from mergenode.selectors.soft import choose
from tests.support.hulls import Quadratic, Vector, quadratic

SOFT = Options(soft=3, inner=60, tolerance=1e-6, rounds=40)


def start_of(problem: Quadratic) -> State:
    return State({WHOLE: dict(zip(sorted(problem.taus), (0.2, 0.3, 0.1), strict=False))})


def best_between(problem: Quadratic, points: list[Vector]) -> float:
    """min f over the hull of a few points, by a general solver."""
    matrix = np.array(points)
    found = minimize(
        lambda shares: problem.value(shares @ matrix),
        np.full(len(points), 1.0 / len(points)),
        jac=lambda shares: matrix @ problem.gradient(shares @ matrix),
        bounds=[(0.0, 1.0)] * len(points),
        constraints={"type": "eq", "fun": lambda shares: shares.sum() - 1.0},
        method="SLSQP",
        options={"ftol": 1e-13, "maxiter": 500},
    )
    return float(found.fun)


def points_of(problem: Quadratic, start: State, count: int) -> tuple[str, ...]:
    return choose(start, per_group(problem.scores(start), False), count)[WHOLE]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("target", ["inside", "face", "outside"])
def test_a_round_finds_the_best_weights_for_those_who_take_part(seed: int, target: str) -> None:
    problem = quadratic(seed, target=target)
    start = start_of(problem)
    points = points_of(problem, start, 2)
    assert {BASE, *start.vertices()} <= set(points)
    corners = [problem.base + (0.0 if vertex == BASE else problem.taus[vertex]) for vertex in points]
    done = one_round(start, problem, replace(SOFT, soft=2, inner=60))
    assert problem.at(done.after) == pytest.approx(best_between(problem, corners), abs=1e-8)
    assert done.losses == (pytest.approx(problem.at(start)), pytest.approx(problem.at(done.after)))
    assert done.after.round == start.round + 1


@pytest.mark.parametrize("target", ["inside", "face", "outside"])
def test_rounds_lead_to_the_optimum(target: str) -> None:
    problem = quadratic(3, target=target)
    selection = run(State(), problem, SOFT)
    everything = [problem.base, *(problem.base + tau for tau in problem.taus.values())]
    assert problem.at(selection.state) == pytest.approx(best_between(problem, everything), abs=1e-5)
    weights = selection.state.of(WHOLE)
    assert all(weight > 0.0 for weight in weights.values())
    assert fsum(weights.values()) <= 1.0 + 1e-12


def test_a_soft_round_is_no_worse_than_a_hard_one() -> None:
    for seed in range(4):
        problem = quadratic(seed, target="face")
        start = start_of(problem)
        hard = one_round(start, problem, Options(variant="plain"))
        assert problem.at(one_round(start, problem, SOFT).after) <= problem.at(hard.after) + 1e-6


def test_one_group_is_the_whole_model() -> None:
    problem = quadratic(4, target="outside", groups={"layers.0": slice(None)})
    options = replace(SOFT, inner=10, rounds=5)
    whole, layers = run(State(), problem, options), run(State(), problem, replace(options, by_group=True))
    assert whole.state.of(WHOLE) == layers.state.of("layers.0")
    assert len(whole.rounds) == len(layers.rounds)


def test_groups_choose_and_mix_for_themselves() -> None:
    problem = quadratic(5, groups={"x": slice(0, 4), "y": slice(4, 8)})
    done = one_round(State(), problem, replace(SOFT, by_group=True))
    for group, part in problem.groups.items():
        alone = Quadratic(
            problem.base[part],
            {vertex: tau[part] for vertex, tau in problem.taus.items()},
            problem.target[part],
            problem.curvatures[part],
        )
        single = one_round(State(), alone, SOFT)
        assert done.after.of(group) == pytest.approx(single.after.of(WHOLE), abs=1e-3)


def test_duplicates_change_nothing() -> None:
    problem = quadratic(6, target="face")
    first = points_of(problem, State(), 1)[-1]
    doubled = replace(problem, taus={**problem.taus, "zzcopy": problem.taus[first]})
    options = replace(SOFT, inner=20, rounds=10)
    assert run(State(), problem, options).state == run(State(), doubled, options).state


def test_while_weights_are_fitted_only_what_takes_part_is_read() -> None:
    problem = quadratic(7)
    start = start_of(problem)
    points = points_of(problem, start, 2)
    problem.calls.clear()
    one_round(start, problem, replace(SOFT, soft=2, inner=3))
    asked = [only for name, only in problem.calls if name == "scores"]
    assert asked[0] is None
    assert asked[1:] == [set(points) - {BASE}] * 3


@pytest.mark.parametrize("inner", range(1, 13))
def test_steps_may_go_up_and_the_best_point_is_what_counts(inner: int) -> None:
    visited: list[float] = []

    class Watched(Quadratic):
        def scores(self, state: State, only: frozenset[str] | None = None) -> Scores:
            visited.append(self.at(state))
            return super().scores(state, only)

    problem = quadratic(0, condition=50.0)
    watched = Watched(problem.base, problem.taus, problem.target, problem.curvatures)
    done = one_round(start_of(problem), watched, replace(SOFT, inner=inner))
    assert problem.at(done.after) == pytest.approx(min(visited), abs=1e-12)
    assert inner < 12 or any(later > earlier for earlier, later in pairwise(visited))


def test_a_gradient_that_breaks_on_the_way_ends_the_fitting_not_the_round() -> None:
    class Breaking(Quadratic):
        def scores(self, state: State, only: frozenset[str] | None = None) -> Scores:
            found = super().scores(state, only)
            return found if only is None else {vertex: {WHOLE: nan} for vertex in found}

    problem = quadratic(0)
    done = one_round(State(), Breaking(problem.base, problem.taus, problem.target, problem.curvatures), SOFT)
    assert done.stop is None
    assert problem.at(done.after) < problem.at(State())


def test_it_stops_when_nothing_is_left_to_gain() -> None:
    problem = quadratic(1, target="outside")
    assert run(State(), problem, replace(SOFT, tolerance=1e-3)).stop is Stop.GAP
