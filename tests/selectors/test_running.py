"""Whole runs on convex quadratics: the rates of the theory, and what must not change a selection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import nan

import numpy as np
import pytest

from mergenode.selectors.barycentric import warm_start
from mergenode.selectors.contract import WHOLE, Options, Scores, State, Step, Stop, Variant
from mergenode.selectors.running import Selection, one_round, run
from tests.support.hulls import Quadratic, quadratic

SCHEDULE = Options(variant="plain", step="schedule", tolerance=0.0, rounds=300)
WAYS: list[tuple[Variant, Step]] = [
    ("plain", "schedule"),
    ("plain", "short"),
    ("plain", "line"),
    ("away", "short"),
    ("away", "line"),
    ("pairwise", "short"),
    ("pairwise", "line"),
]
ways = pytest.mark.parametrize(("variant", "step"), WAYS)


def options_for(problem: Quadratic, variant: Variant, step: Step, rounds: int = 40) -> Options:
    return Options(variant=variant, step=step, smoothness=problem.smoothness, tolerance=1e-9, rounds=rounds)


def gaps(selection: Selection) -> list[float]:
    return [done.proposal.gap for done in selection.rounds]


def least(problem: Quadratic) -> float:
    """min f over the hull. The bound of the gap makes it one: below it by no more than the tolerance."""
    options = Options(variant="away", step="short", smoothness=problem.smoothness, tolerance=1e-10, rounds=3000)
    selection = run(State(), problem, options)
    assert selection.stop is Stop.GAP
    return problem.at(selection.state)


@pytest.mark.parametrize("target", ["inside", "face", "outside"])
@pytest.mark.parametrize("seed", range(2))
def test_the_schedule_keeps_the_rate_of_the_theory(seed: int, target: str) -> None:
    """Jaggi 2013: f - min f <= 2 C / (t + 2), and some gap up to round t <= 27/4 C / (t + 2)."""
    problem = quadratic(seed, target=target)
    optimum = 0.0 if target != "outside" else least(problem)
    selection, constant = run(State(), problem, SCHEDULE), problem.curvature_constant()
    assert [done.gamma[WHOLE] for done in selection.rounds[:4]] == [1.0, 2 / 3, 2 / 4, 2 / 5]
    for number, done in enumerate(selection.rounds[1:], start=1):
        assert problem.at(done.before) - optimum <= 2.0 * constant / (number + 2)
    measured = gaps(selection)
    for number in range(2, len(measured)):
        assert min(measured[: number + 1]) <= 27 / 4 * constant / (number + 2)
    assert min(measured) < 0.02 * measured[0]


@pytest.mark.parametrize("variant", ["away", "pairwise"])
@pytest.mark.parametrize("step", ["short", "line"])
@pytest.mark.parametrize("seed", range(2))
def test_taking_weight_off_converges_linearly_on_a_face(variant: Variant, step: Step, seed: int) -> None:
    """Lacoste-Julien and Jaggi 2015, theorem 1. Twenty rounds halve the error again and again; without, they do not."""
    problem = quadratic(seed, target="face")
    selection = run(State(), problem, options_for(problem, variant, step, rounds=400))
    assert selection.stop is Stop.GAP
    errors = [problem.at(done.before) for done in selection.rounds]
    for early, late in zip(errors, errors[20:], strict=False):
        assert late <= 0.5 * early
    plain = run(State(), problem, options_for(problem, "plain", step, rounds=len(errors)))
    assert problem.at(plain.state) > 1e3 * problem.at(selection.state)


@ways
def test_the_gap_goes_to_zero(variant: Variant, step: Step) -> None:
    problem = quadratic(5, target="inside")
    measured = gaps(run(State(), problem, options_for(problem, variant, step, rounds=200)))
    assert min(measured) < 1e-2 * measured[0]


@ways
@pytest.mark.parametrize("target", ["inside", "outside"])
def test_duplicates_change_nothing(variant: Variant, step: Step, target: str) -> None:
    """Copies below another digest, before or after the first one: the same path, to the last bit."""
    problem = quadratic(7, target=target)
    copies = {"00copy": sorted(problem.taus)[2], "zzcopy": sorted(problem.taus)[0]}
    doubled = replace(problem, taus={**problem.taus, **{name: problem.taus[of] for name, of in copies.items()}})
    options = options_for(problem, variant, step)
    once, twice = run(State(), problem, options), run(State(), doubled, options)
    assert gaps(once) == gaps(twice)
    for one, other in zip(once.rounds, twice.rounds, strict=True):
        merged: dict[str, float] = {}
        for vertex, weight in other.after.of(WHOLE).items():
            merged[copies.get(vertex, vertex)] = merged.get(copies.get(vertex, vertex), 0.0) + weight
        assert merged == one.after.of(WHOLE)


@ways
def test_the_order_of_the_pool_changes_nothing(variant: Variant, step: Step) -> None:
    problem = quadratic(3, target="outside")
    turned = replace(problem, taus=dict(reversed(problem.taus.items())))
    options = options_for(problem, variant, step)
    one, other = run(State(), problem, options), run(State(), turned, options)
    assert gaps(one) == gaps(other)
    for group, weights in one.state.weights.items():
        assert other.state.of(group) == weights


@ways
@pytest.mark.parametrize("size", [1.0, 20.0, 1e6])
def test_a_model_along_the_gradient_is_never_chosen(variant: Variant, step: Step, size: float) -> None:
    """Its direction raises the loss everywhere in the hull: it might as well not be there."""
    problem = quadratic(2)
    away_from = np.ones_like(problem.base) * 4.0
    problem = replace(problem, target=problem.base - away_from * problem.diameter())
    harmful = replace(problem, taus={**problem.taus, "00harm": size * away_from})
    options = options_for(problem, variant, step)
    clean, attacked = run(State(), problem, options), run(State(), harmful, options)
    assert all("00harm" not in done.after.vertices() for done in attacked.rounds)
    assert all(done.proposal.score["00harm"] > 0.0 for done in attacked.rounds)
    assert attacked.state == clean.state


@ways
@pytest.mark.parametrize("target", ["inside", "outside"])
def test_one_group_is_the_whole_model(variant: Variant, step: Step, target: str) -> None:
    problem = quadratic(4, target=target, groups={"layers.0": slice(None)})
    options = options_for(problem, variant, step)
    whole, layers = run(State(), problem, options), run(State(), problem, replace(options, by_group=True))
    assert gaps(whole) == gaps(layers)
    assert [done.after.of(WHOLE) for done in whole.rounds] == [done.after.of("layers.0") for done in layers.rounds]


def test_the_whole_model_adds_up_what_groups_score() -> None:
    problem = quadratic(4, target="outside")
    parts = replace(problem, groups={"a": slice(0, 2), "b": slice(2, 3), "c": slice(3, None)})
    one, other = run(State(), problem, SCHEDULE), run(State(), parts, SCHEDULE)
    assert other.state.of(WHOLE) == pytest.approx(one.state.of(WHOLE), abs=1e-12)


@pytest.mark.parametrize(("variant", "step"), [("plain", "schedule"), ("away", "short"), ("pairwise", "short")])
def test_groups_that_do_not_touch_each_other_select_as_if_alone(variant: Variant, step: Step) -> None:
    """The hull is a product and the loss a sum: every group runs the algorithm on its own coordinates."""
    groups = {"x": slice(0, 4), "y": slice(4, 8)}
    problem = quadratic(6, groups=groups)
    options = replace(options_for(problem, variant, step, rounds=15), tolerance=0.0)
    together = run(State(), problem, replace(options, by_group=True))
    for group, part in groups.items():
        alone = Quadratic(
            problem.base[part],
            {vertex: tau[part] for vertex, tau in problem.taus.items()},
            problem.target[part],
            problem.curvatures[part],
        )
        single = run(State(), alone, options)
        assert together.state.of(group) == pytest.approx(single.state.of(WHOLE), abs=1e-12)


@pytest.mark.parametrize(("variant", "step"), [way for way in WAYS if way[1] != "schedule"])
def test_no_round_makes_it_worse(variant: Variant, step: Step) -> None:
    groups = {"x": slice(0, 4), "y": slice(4, 8)}
    for by_group in (False, True):
        problem = quadratic(8, target="face", groups=groups)
        options = replace(options_for(problem, variant, step, rounds=60), by_group=by_group)
        values = [problem.at(done.before) for done in run(State(), problem, options).rounds]
        assert all(later <= earlier + 1e-12 for earlier, later in pairwise(values))
        assert values[-1] < 0.05 * values[0]


def test_a_warm_start_needs_fewer_rounds() -> None:
    problem = quadratic(9, target="face")
    options = options_for(problem, "away", "line", rounds=200)
    first = run(State(), problem, options)
    grown = replace(problem, taus={**problem.taus, "newcomer": problem.taus[sorted(problem.taus)[0]] * 0.9})
    cold = run(State(), grown, options)
    warm = run(warm_start(first.state, grown.taus, known=problem.taus), grown, options)
    assert cold.stop is warm.stop is Stop.GAP
    assert len(warm.rounds) < len(cold.rounds)


@ways
def test_a_warm_start_arrives_where_a_cold_one_does(variant: Variant, step: Step) -> None:
    problem = quadratic(10, target="outside")
    gone = sorted(problem.taus)[1]
    options = replace(options_for(problem, variant, step, rounds=400), tolerance=1e-4)
    before = run(State(), problem, options).state
    left = replace(problem, taus={vertex: tau for vertex, tau in problem.taus.items() if vertex != gone})
    warm = run(warm_start(before, left.taus, known=problem.taus), left, options)
    optimum = least(left)
    bound = 2.0 * left.curvature_constant() / 400 if step == "schedule" or variant == "plain" else 1e-4
    assert problem.at(warm.state) - optimum <= bound


def test_it_stops_at_the_tolerance_or_at_the_limit() -> None:
    problem = quadratic(0)
    loose = run(State(), problem, replace(SCHEDULE, tolerance=0.5))
    assert loose.stop is Stop.GAP
    assert loose.rounds[-1].proposal.gap <= 0.5 < min(gaps(loose)[:-1])
    assert loose.rounds[-1].after == loose.rounds[-1].before
    short = run(State(), problem, replace(SCHEDULE, rounds=3))
    assert (short.stop, len(short.rounds), short.state.round) == (Stop.ROUNDS, 3, 3)
    assert run(State(), replace(problem, taus={}), SCHEDULE).stop is Stop.GAP


@pytest.mark.parametrize("constant", [1.0, nan])
@pytest.mark.parametrize("soft", [1, 3])
def test_without_a_lower_loss_nothing_moves(constant: float, soft: int) -> None:
    class Flat(Quadratic):
        def losses(self, start: State, end: State, shares: Sequence[float]) -> Sequence[float]:
            return [constant for _ in shares]

    problem = quadratic(0)
    flat = Flat(problem.base, problem.taus, problem.target, problem.curvatures)
    selection = run(State(), flat, Options(soft=soft))
    assert (selection.stop, selection.state, len(selection.rounds)) == (Stop.NO_DESCENT, State(), 1)


def test_a_vertex_that_turns_into_nonsense_is_dropped_and_the_run_goes_on() -> None:
    problem = quadratic(1, target="face")
    bad = sorted(problem.taus)[0]

    class Rotten(Quadratic):
        def scores(self, state: State, only: frozenset[str] | None = None) -> Scores:
            good = super().scores(state, only)
            return {v: {WHOLE: nan} if v == bad else groups for v, groups in good.items()}

    rotten = Rotten(problem.base, problem.taus, problem.target, problem.curvatures)
    clean = replace(problem, taus={vertex: tau for vertex, tau in problem.taus.items() if vertex != bad})
    options = options_for(problem, "away", "line", rounds=200)
    start = State({WHOLE: {bad: 0.5}})
    selection = run(start, rotten, options)
    assert selection.rounds[0].after == State(round=1)
    assert all(bad in done.proposal.refused for done in selection.rounds)
    assert problem.at(selection.state) == pytest.approx(least(clean), abs=1e-5)


def test_only_what_was_announced_is_asked() -> None:
    for variant, step in WAYS:
        problem = quadratic(0)
        options = options_for(problem, variant, step)
        run(State(), problem, options)
        assert {name for name, _ in problem.calls} == options.needs


def test_rounds_can_be_taken_one_at_a_time() -> None:
    problem = quadratic(2, target="outside")
    options = options_for(problem, "away", "line", rounds=6)
    state = State()
    for done in run(State(), problem, options).rounds:
        assert one_round(state, problem, options) == done
        state = done.after
    assert state.round > 3
