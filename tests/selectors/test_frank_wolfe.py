"""One move: what is chosen, why, and what becomes of the weights. Held against the algorithm written out on vectors."""

from __future__ import annotations

from math import fsum, inf, nan
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mergenode.errors import TransientError, UsageError
from mergenode.selectors.contract import BASE, WHOLE, Options, State, Why, base_weight
from mergenode.selectors.frank_wolfe import Move, Proposal, advance, propose
from mergenode.selectors.shortlist import unread
from mergenode.selectors.steps import schedule_step
from tests.support.hulls import Quadratic, Vector, barycentric, quadratic
from tests.support.literal_frank_wolfe import literal

PLAIN = Options(variant="plain", step="schedule")
AWAY, PAIRWISE = Options(variant="away"), Options(variant="pairwise")
VARIANTS = {"plain": PLAIN, "away": AWAY, "pairwise": PAIRWISE}

names = st.sampled_from([f"{number:02x}" for number in range(8)])
DAMPING = {"plain": 1.0, "away": 1.0, "pairwise": 1.3}
"""A pairwise step to the minimum makes its two vertices score alike: the next choice would be one of rounding."""

numbers = st.floats(-100, 100, allow_nan=False)
pools = st.dictionaries(names, numbers, min_size=1)


def whole(scores: dict[str, float]) -> dict[str, dict[str, float]]:
    return {vertex: {WHOLE: value} for vertex, value in scores.items()}


@st.composite
def states(draw: st.DrawFn, pool: dict[str, float]) -> State:
    """Some weights for some of the pool; the base may have lost all of its own."""
    held = draw(st.lists(st.sampled_from(sorted(pool)), unique=True))
    parts = draw(st.lists(st.floats(0.01, 1.0), min_size=len(held) + 1, max_size=len(held) + 1))
    total = fsum(parts) - (parts[-1] if draw(st.booleans()) and held else 0.0)
    return State({WHOLE: {vertex: part / total for vertex, part in zip(held, parts, strict=False)}} if held else {})


def best_gamma(problem: Quadratic, state: State, proposal: Proposal, damping: float = 1.0) -> float:
    """The minimum along the move, in closed form, from vectors; divided by ``damping``."""
    theta, reach = problem.theta(state.weights), proposal.gamma_max
    direction = (problem.theta(advance(state, proposal, reach).weights) - theta) / reach
    curvature = float(np.sum(problem.curvatures * direction**2))
    return min(-float(problem.gradient(theta) @ direction) / (damping * curvature), reach)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("target", ["inside", "face", "outside"])
@pytest.mark.parametrize("seed", range(3))
def test_a_run_is_the_literal_algorithm_step_by_step(variant: str, target: str, seed: int) -> None:
    problem = quadratic(seed, target=target, vertices=9, size=6)  # more vertices than a simplex has
    order = sorted(problem.taus)

    def step(number: int, slope: float, direction: Vector, gamma_max: float) -> float:
        if variant == "plain":
            return schedule_step(number)
        curvature = float(np.sum(problem.curvatures * direction**2))
        return min(slope / (DAMPING[variant] * curvature), gamma_max)

    atoms = [problem.base, *(problem.base + problem.taus[vertex] for vertex in order)]
    path = literal(atoms, problem.gradient, step, variant=variant, rounds=60)
    assert len(path) > 5
    state = State()
    for theta, weights, gap in path:
        if gap < 1e-8:
            break  # from here on rounding chooses
        assert problem.theta(state.weights) == pytest.approx(theta, abs=1e-12)
        held = barycentric(state)
        assert [held.get(vertex, 0.0) for vertex in [BASE, *order]] == pytest.approx(weights.tolist(), abs=1e-12)
        assert {vertex for vertex in held if held[vertex] > 0.0} == {
            vertex for vertex, weight in zip([BASE, *order], weights, strict=True) if weight > 0.0
        }
        proposal = propose(state, problem.scores(state), VARIANTS[variant])
        assert proposal.gap == pytest.approx(gap, abs=1e-12)
        gamma = (
            schedule_step(state.round) if variant == "plain" else best_gamma(problem, state, proposal, DAMPING[variant])
        )
        state = advance(state, proposal, gamma)


def test_steps_that_take_weight_off_do_happen_there() -> None:
    """The comparison above is worth something: vertices do lose their weight, the base among them."""
    dropped = set()
    for seed in range(3):
        problem, state = quadratic(seed, target="face", vertices=9, size=6), State()
        for _ in range(60):
            proposal = propose(state, problem.scores(state), AWAY)
            if proposal.gap < 1e-8:
                break
            before, state = state, advance(state, proposal, best_gamma(problem, state, proposal))
            away = proposal.moves[WHOLE].away
            if away is not None and barycentric(state).get(away, 0.0) == 0.0:
                assert barycentric(before)[away] > 0.0
                dropped.add("base" if away == BASE else "content")
    assert dropped == {"base", "content"}


@given(st.data(), pools, st.sampled_from(sorted(VARIANTS)), st.floats(0, 1.5))
@settings(deadline=None)
def test_weights_stay_on_the_simplex(data: st.DataObject, pool: dict[str, float], variant: str, gamma: float) -> None:
    state = data.draw(states(pool))
    for _ in range(4):
        state = advance(state, propose(state, whole(pool), VARIANTS[variant]), gamma)
        weights = state.of(WHOLE)
        assert all(0.0 < weight <= 1.0 + 1e-12 for weight in weights.values())
        assert fsum(weights.values()) <= 1.0 + 1e-12
        pool = {vertex: data.draw(numbers) for vertex in pool}


@given(st.data(), pools, st.sampled_from(sorted(VARIANTS)), st.floats(1e-3, 1.0))
@settings(deadline=None)
def test_a_move_goes_down_along_the_slope_that_it_names(
    data: st.DataObject, pool: dict[str, float], variant: str, gamma: float
) -> None:
    """sum_j w_j a_j, the linear part of the loss, changes by gamma times the slope."""
    state = data.draw(states(pool))
    proposal = propose(state, whole(pool), VARIANTS[variant])
    assume(proposal.moves)
    gamma *= proposal.gamma_max
    assert 0.0 < proposal.gamma_max <= 1.0
    assert proposal.slope <= -proposal.gap * (1 - 1e-9) + 1e-12, "up to the rounding of weights that sum to one"
    after = advance(state, proposal, gamma)
    change = fsum(w * pool[v] for v, w in after.of(WHOLE).items()) - fsum(
        w * pool[v] for v, w in state.of(WHOLE).items()
    )
    assert change == pytest.approx(gamma * proposal.slope, abs=1e-9)


@given(st.integers(0, 10**6), st.sampled_from(["inside", "face", "outside"]))
@settings(deadline=None, max_examples=60)
def test_the_gap_bounds_the_distance_to_the_optimum(seed: int, target: str) -> None:
    problem, draw = quadratic(seed, target=target), np.random.default_rng(seed + 1)
    order = sorted(problem.taus)

    def somewhere() -> State:
        return State({WHOLE: dict(zip(order, draw.dirichlet(np.full(len(order) + 1, 0.5)), strict=False))})

    state = somewhere()
    gap = propose(state, problem.scores(state), AWAY).gap
    lowest = 0.0 if target != "outside" else min(problem.at(somewhere()) for _ in range(30))
    assert gap >= problem.at(state) - lowest - 1e-9


@given(st.data(), pools, st.randoms(use_true_random=False), st.sampled_from(sorted(VARIANTS)))
@settings(deadline=None)
def test_the_order_of_the_pool_changes_nothing(
    data: st.DataObject, pool: dict[str, float], shuffle: Random, variant: str
) -> None:
    state = data.draw(states(pool))
    order, held = list(pool), list(state.of(WHOLE))
    shuffle.shuffle(order)
    shuffle.shuffle(held)
    proposal = propose(state, whole(pool), VARIANTS[variant])
    other = State({WHOLE: {vertex: state.of(WHOLE)[vertex] for vertex in held}})
    again = propose(other, whole({vertex: pool[vertex] for vertex in order}), VARIANTS[variant])
    assert again == proposal
    assert advance(other, again, 0.3) == advance(state, proposal, 0.3)


@given(st.data(), st.dictionaries(names, st.sampled_from([-1.0, 0.0, 1.0]), min_size=1))
@settings(deadline=None)
def test_ties_go_to_the_base_and_then_to_the_smallest_digest(data: st.DataObject, pool: dict[str, float]) -> None:
    state = data.draw(states(pool))
    moves = propose(state, whole(pool), AWAY).moves
    if moves and (chosen := moves[WHOLE].toward) is not None:
        assert chosen == (min(v for v in pool if pool[v] == -1.0) if -1.0 in pool.values() else BASE)


@given(st.data(), pools, st.sampled_from(sorted(VARIANTS)))
@settings(deadline=None)
def test_scores_of_the_short_list_are_enough(data: st.DataObject, pool: dict[str, float], variant: str) -> None:
    state = data.draw(states(pool))
    errors = {vertex: data.draw(st.floats(0.001, 30.0)) for vertex in sorted(pool)}
    estimates = {vertex: pool[vertex] + data.draw(st.floats(-0.99, 0.99)) * errors[vertex] for vertex in sorted(pool)}
    read = {vertex: pool[vertex] for vertex in state.vertices() if vertex in pool}
    while left := unread(estimates, errors, read, 1, ceiling=0.0):
        read[left[0]] = pool[left[0]]
    every = propose(state, whole(pool), VARIANTS[variant])
    some = propose(state, whole(read), VARIANTS[variant])
    assert (some.moves, some.gap) == (every.moves, every.gap)


def test_each_group_chooses_for_itself() -> None:
    scores = {"a": {"x": -1.0, "y": 4.0}, "b": {"x": 2.0, "y": -3.0}, "c": {"x": 1.0, "y": 1.0}}
    proposal = propose(State(), scores, Options(variant="plain", by_group=True))
    assert {group: move.toward for group, move in proposal.moves.items()} == {"x": "a", "y": "b"}
    assert (proposal.gap, proposal.gap_by_group) == (4.0, {"x": 1.0, "y": 3.0})
    assert proposal.why == {"a": Why.CHOSEN, "b": Why.CHOSEN, "c": Why.USELESS}
    assert advance(State(), proposal, 0.5).weights == {"x": {"a": 0.5}, "y": {"b": 0.5}}
    assert advance(State(), proposal, {"x": 0.25}).weights == {"x": {"a": 0.25}}


def test_a_group_without_a_gap_stays_where_it_is() -> None:
    state = State({"x": {"a": 0.5}, "y": {"a": 0.5}})
    proposal = propose(state, {"a": {"x": 0.0, "y": -1.0}}, Options(variant="plain", by_group=True))
    assert set(proposal.moves) == {"y"}
    assert advance(state, proposal, 0.5).weights == {"x": {"a": 0.5}, "y": {"a": 0.75}}


def test_a_group_goes_no_further_than_its_weights_reach() -> None:
    """One group takes weight off, the other goes towards a vertex; a common step stops the first at zero."""
    state = State({"x": {"a": 0.2, "b": 0.8}, "y": {"a": 0.2}})
    scores = {"a": {"x": 9.0, "y": -1.0}, "b": {"x": -1.0, "y": 0.0}}
    proposal = propose(state, scores, Options(variant="away", by_group=True))
    assert proposal.moves["x"] == Move(
        toward=None, away="a", gamma_max=0.25, gap=pytest.approx(2.0), slope=pytest.approx(-8.0)
    )
    assert proposal.gamma_max == 0.25
    assert advance(state, proposal, 0.5).weights == {"x": {"b": 1.0}, "y": {"a": pytest.approx(0.6)}}


def test_it_says_why() -> None:
    pool = {"best": -3.0, "good": -2.0, "held": -1.0, "worst": 5.0, "bad": 1.0, "nan": nan}
    state = State({WHOLE: {"held": 0.5, "worst": 0.1}})
    proposal = propose(state, whole(pool), AWAY)
    assert proposal.moves[WHOLE].away == "worst"
    assert proposal.score["best"] == pytest.approx(-3.0)
    assert proposal.why == {
        "best": Why.OUTDONE,
        "good": Why.OUTDONE,
        "held": Why.HELD,
        "worst": Why.AWAY,
        "bad": Why.USELESS,
        "nan": Why.REFUSED,
    }
    assert propose(State(), whole(pool), PLAIN).why["best"] is Why.CHOSEN


@pytest.mark.parametrize("bad", [nan, inf, -inf, -1e200])
def test_a_score_that_is_no_number_refuses_its_vertex_alone(bad: float) -> None:
    pool = {"a": {"x": -1.0, "y": 0.0}, "b": {"x": -5.0, "y": bad}}
    for by_group in (False, True):
        options = Options(variant="plain", by_group=by_group)
        proposal = propose(State(), pool, options)
        assert proposal.refused == {"b": f"the inner product with the gradient is {bad} in group y"}
        alone = propose(State(), {"a": pool["a"]}, options)
        assert (proposal.moves, proposal.gap) == (alone.moves, alone.gap)
        assert advance(State(), proposal, 1.0) == advance(State(), alone, 1.0)


def test_a_refused_vertex_loses_its_weight_before_anything_moves() -> None:
    state = State({WHOLE: {"a": 0.25, "b": 0.5}}, 3)
    proposal = propose(state, whole({"a": -1.0, "b": nan, "c": inf}), AWAY)
    assert (proposal.moves, proposal.gap) == ({}, inf)
    assert set(proposal.refused) == {"b", "c"}
    assert advance(state, proposal, 1.0) == State({WHOLE: {"a": 0.25}}, 4)


def test_a_gradient_that_is_no_number_is_not_blamed_on_the_models() -> None:
    with pytest.raises(TransientError, match="the gradient at the current merge"):
        propose(State({WHOLE: {"a": 0.5}}), whole({"a": nan, "b": nan}), AWAY)
    assert propose(State(), whole({"a": nan}), AWAY).moves == {}


def test_weights_without_scores_are_a_mistake() -> None:
    with pytest.raises(UsageError, match="a has weight and no score"):
        propose(State({WHOLE: {"a": 0.5}}), whole({"b": 1.0}), AWAY)
    with pytest.raises(UsageError, match="group '\\*' that no score has"):
        propose(State({WHOLE: {"a": 0.5}}), {"a": {"x": 1.0}}, Options(by_group=True))


def test_an_empty_pool_has_nothing_to_choose() -> None:
    proposal = propose(State(), {}, AWAY)
    assert (proposal.moves, proposal.gap, proposal.gamma_max) == ({}, 0.0, 0.0)
    assert advance(State(), proposal, 1.0).weights == {}


def test_a_full_step_leaves_one_vertex() -> None:
    state = State({WHOLE: {"a": 0.3, "b": 0.2}})
    assert advance(state, propose(state, whole({"a": 1.0, "b": -1.0}), PLAIN), 1.0).weights == {WHOLE: {"b": 1.0}}
    assert advance(state, propose(state, whole({"a": 1.0, "b": 1.0}), PLAIN), 1.0).weights == {}


def test_the_base_can_lose_its_weight() -> None:
    state = State({WHOLE: {"a": 0.9}})
    proposal = propose(state, whole({"a": -1.0}), PAIRWISE)
    assert proposal.moves[WHOLE].away == BASE
    after = advance(state, proposal, 1.0)
    assert after.weights == {WHOLE: {"a": 1.0}}
    assert base_weight(after.of(WHOLE)) == 0.0
