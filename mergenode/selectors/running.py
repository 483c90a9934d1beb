"""One round and the whole loop of a selection. The daemon, benchmarks and tests run this same code.

A round needs nothing but the state, so the daemon may take one at a time and keep the state in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf, isfinite

from mergenode.selectors.barycentric import difference
from mergenode.selectors.contract import Options, Oracle, Scores, State, Stop
from mergenode.selectors.frank_wolfe import Proposal, advance, propose
from mergenode.selectors.inner_products import per_group, refusals
from mergenode.selectors.soft import Coefficients, at_rest, choose, mixed, slopes, soft_step
from mergenode.selectors.steps import line_candidates, lowest, refined, schedule_step, short_step

RATES = (4.0, 1.0, 0.25, 0.0625)
"""Multiples of the last good rate that one step of projected gradient tries."""

REFINEMENTS = 3
"""Parabolas that a line search tries as long as no point is better than where it stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What a round found at ``before`` and did. ``stop`` is set when it did nothing and there is nothing to do.

    ``gamma``: by group, empty for soft rounds. ``losses``: the objective before and after, where it was asked for.
    """

    before: State
    after: State
    proposal: Proposal
    gamma: Mapping[str, float]
    losses: tuple[float, float] | None
    stop: Stop | None


@dataclass(frozen=True, slots=True)
class Selection:
    """Where a run ended: the weights, every round, and why it ended."""

    state: State
    rounds: tuple[Round, ...]
    stop: Stop


def run(state: State, oracle: Oracle, options: Options) -> Selection:
    """Rounds from ``state`` on until the gap is within the tolerance, nothing helps, or the limit of rounds.

    The last of the rounds that are allowed takes its step; the gap after it is not measured.
    """
    rounds: list[Round] = []
    while len(rounds) < options.rounds:
        rounds.append(one_round(state, oracle, options))
        state = rounds[-1].after
        if rounds[-1].stop is not None:
            return Selection(state, tuple(rounds), rounds[-1].stop)
    return Selection(state, tuple(rounds), Stop.ROUNDS)


def one_round(state: State, oracle: Oracle, options: Options) -> Round:
    """Score the pool at ``state``, and move. What the oracle and ``propose`` raise is passed on."""
    scores = oracle.scores(state)
    proposal = propose(state, scores, options)
    still = Round(before=state, after=state, proposal=proposal, gamma={}, losses=None, stop=None)
    if proposal.gap <= options.tolerance or not (proposal.moves or proposal.refused):
        return replace(still, stop=Stop.GAP)
    if not proposal.moves:
        return replace(still, after=advance(state, proposal, 0.0))
    if options.soft > 1:
        return _soft_round(still, scores, oracle, options)
    if options.step == "line":
        return _line_round(still, oracle)
    gamma = _gammas(state, proposal, oracle, options)
    return replace(still, after=advance(state, proposal, gamma), gamma=gamma)


def _gammas(state: State, proposal: Proposal, oracle: Oracle, options: Options) -> dict[str, float]:
    moves = proposal.moves
    if options.step == "schedule":
        return dict.fromkeys(moves, schedule_step(state.round))
    assert options.smoothness is not None
    ends = advance(state, proposal, 1.0)
    lengths = oracle.distances(difference(ends.weights, state.weights))
    gammas = {}
    for group, move in moves.items():
        distance_sq = lengths[group] / move.gamma_max**2  # what was asked for goes to gamma_max
        gammas[group] = short_step(-move.slope, options.smoothness, distance_sq, move.gamma_max)
    return gammas


def _line_round(still: Round, oracle: Oracle) -> Round:
    """The best of a few points, and of the minimum of the parabola through the best three of them."""
    state, proposal = still.before, still.proposal
    gammas = list(line_candidates(proposal.gamma_max))
    losses = list(oracle.losses([_at(state, proposal, gamma) for gamma in gammas]))
    for _ in range(REFINEMENTS):
        finer = refined(gammas, losses)
        if finer is None:
            break
        gammas.append(finer)
        losses += oracle.losses([_at(state, proposal, finer)])
        if lowest(gammas, losses) > 0.0:
            break
    gamma = lowest(gammas, losses)
    ends = (losses[0], losses[gammas.index(gamma)])
    if gamma == 0.0:
        return replace(still, losses=ends, stop=Stop.NO_DESCENT)
    taken = {group: min(gamma, move.gamma_max) for group, move in proposal.moves.items()}
    return replace(still, after=advance(state, proposal, gamma), gamma=taken, losses=ends)


def _at(state: State, proposal: Proposal, gamma: float) -> State:
    return state if gamma == 0.0 else advance(state, proposal, gamma)


def _soft_round(still: Round, scores: Scores, oracle: Oracle, options: Options) -> Round:
    """Projected gradient on the coefficients of the best vertices, each step the best of a few rates."""
    start = still.before
    usable = {vertex: values for vertex, values in scores.items() if vertex not in still.proposal.refused}
    table = per_group(usable, options.by_group)
    chosen = choose(start, table, options.soft)
    coefficients, gradient = at_rest(chosen), slopes(start, chosen, table)
    rate = 1.0 / max(max(values) - min(values) for values in gradient.values())  # moves in the order of the simplex
    first = best = next(iter(oracle.losses([start])))
    for _ in range(options.inner):
        tried = [_soft_steps(coefficients, gradient, rate * factor) for factor in RATES]
        losses = oracle.losses([mixed(start, chosen, trial) for trial in tried])
        value, place = min((loss if isfinite(loss) else inf, place) for place, loss in enumerate(losses))
        if not value < best:
            rate *= RATES[-1] ** 2
            continue
        coefficients, best, rate = tried[place], value, rate * RATES[place]
        asked = usable.keys() & {vertex for vertices in chosen.values() for vertex in vertices}
        there = oracle.scores(mixed(start, chosen, coefficients), asked | start.vertices())
        if refusals(there):
            break  # the loss is finite, its gradient is not: no further from here
        gradient = slopes(start, chosen, per_group(there, options.by_group))
    if not best < first:
        return replace(still, losses=(first, best), stop=Stop.NO_DESCENT)
    after = replace(mixed(start, chosen, coefficients), round=start.round + 1)
    return replace(still, after=after, losses=(first, best))


def _soft_steps(coefficients: Coefficients, gradient: Coefficients, rate: float) -> dict[str, tuple[float, ...]]:
    return {group: soft_step(values, gradient[group], rate) for group, values in coefficients.items()}
