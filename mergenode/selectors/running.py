"""One round and the whole loop of a selection. The daemon, benchmarks and tests run this same code.

A round needs nothing but the state, so the daemon may take one at a time and keep the state in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mergenode.selectors.barycentric import difference
from mergenode.selectors.contract import Options, Oracle, Scores, State, Stop
from mergenode.selectors.fitting import fit
from mergenode.selectors.frank_wolfe import Proposal, advance, propose
from mergenode.selectors.inner_products import per_group
from mergenode.selectors.line_search import search
from mergenode.selectors.soft import choose, slopes
from mergenode.selectors.steps import schedule_step, short_step


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
    state, proposal = still.before, still.proposal
    found = search(oracle, state, advance(state, proposal, proposal.gamma_max))
    gamma = found.share * proposal.gamma_max
    if gamma == 0.0:
        return replace(still, losses=(found.before, found.after), stop=Stop.NO_DESCENT)
    taken = dict.fromkeys(proposal.moves, gamma)
    return replace(still, after=advance(state, proposal, gamma), gamma=taken, losses=(found.before, found.after))


def _soft_round(still: Round, scores: Scores, oracle: Oracle, options: Options) -> Round:
    start = still.before
    usable = {vertex: values for vertex, values in scores.items() if vertex not in still.proposal.refused}
    table = per_group(usable, options.by_group)
    points = choose(start, table, options.soft)
    fitted = fit(start, points, slopes(points, table), oracle, options.inner, options.by_group)
    losses = (fitted.before, fitted.after)
    if fitted.state == start:
        return replace(still, losses=losses, stop=Stop.NO_DESCENT)
    return replace(still, after=replace(fitted.state, round=start.round + 1), losses=losses)
