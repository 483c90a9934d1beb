"""Frank-Wolfe over the hull of the pool, by inner products: which vertex next, how far from the optimum, new weights.

Jaggi 2013, "Revisiting Frank-Wolfe", algorithms 1 and 2 (linear problem, duality gap); Lacoste-Julien and Jaggi 2015,
"On the global linear convergence of Frank-Wolfe optimization variants", algorithms 1 (away steps) and 2 (pairwise);
Chen et al. 2025 (arXiv 2503.12649) for the merge of models. ALGORITHMS.md 2.7; why it differs from the published code:
docs/adr/0029-frank-wolfe-by-inner-products.md.

By group the domain is the product of one hull per group: the linear problem splits, the gap is the sum. Each group
takes its own kind of step, and no group goes further than its own gamma_max.

No choice depends on the order of the candidates (``inner_products``), so every machine makes the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import fsum, inf

from mergenode.errors import TransientError, TransientReason, UsageError
from mergenode.selectors.barycentric import settled, without
from mergenode.selectors.contract import (
    BASE,
    Options,
    Scores,
    Selector,
    State,
    Step,
    Variant,
    Why,
    base_weight,
)
from mergenode.selectors.inner_products import current, per_group, rank, refusals


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What one group would do: its direction is d = (toward or theta) - (away or theta), in task vectors.

    ``toward``, ``away``: a content, ``base``, or ``None`` for theta itself. ``gamma_max``: where a weight reaches zero;
    in (0, 1]. ``gap``: max_i <g, theta - theta_i> of the group. ``slope``: <g, d>, below 0.
    """

    toward: str | None
    away: str | None
    gamma_max: float
    gap: float
    slope: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One round, not yet taken.

    ``moves``: by group, without groups that have no gap. ``gap``: sum of the groups' gaps, at least f - min f for
    convex f; infinite where a vertex with weight was refused, since the gradient is not that of what is left.
    ``score``: content -> <g, theta_i - theta> over all groups. ``refused``: content -> which score and why.
    """

    moves: Mapping[str, Move]
    gap: float
    gap_by_group: Mapping[str, float]
    score: Mapping[str, float]
    why: Mapping[str, Why]
    refused: Mapping[str, str]

    @property
    def gamma_max(self) -> float:
        """The longest step that all groups take, on a straight line: there the first weight reaches zero."""
        return min((move.gamma_max for move in self.moves.values()), default=0.0)

    @property
    def slope(self) -> float:
        """<g, d> of all groups together: the derivative of the loss in gamma, at 0."""
        return fsum(move.slope for move in self.moves.values())


def frank_wolfe(
    *,
    variant: Variant = "away",
    step: Step = "line",
    by_group: bool = False,
    soft: int = 1,
    inner: int = 10,
    smoothness: float | None = None,
    tolerance: float = 1e-3,
    rounds: int = 20,
) -> Selector:
    """The selector with these options; what they mean: ``contract.Options``.

    Raises:
        UsageError: a value that is not allowed, or values that do not go together.
    """
    options = Options(
        variant=variant,
        step=step,
        by_group=by_group,
        soft=soft,
        inner=inner,
        smoothness=smoothness,
        tolerance=tolerance,
        rounds=rounds,
    )
    return Selector("frank_wolfe", options)


def propose(state: State, scores: Scores, options: Options) -> Proposal:
    """The next move from ``state``, whose gradient gave ``scores``. Pure; the same on every machine.

    A content with a score that is not finite, in any group, is no vertex in this round. If it has weight there is no
    move: ``advance`` takes its weight away, and the next round sees a gradient without it.

    Raises:
        UsageError: a content has weight and no score, or weight in a group that no score has.
        TransientError: no content has a finite score although some have weight: the gradient is at fault.
    """
    refused = refusals(scores)
    lost = state.vertices() & refused.keys()
    if lost and len(refused) == len(scores):
        raise TransientError(
            TransientReason.TASK_FAILED,
            f"none of {len(scores)} scores is finite: the gradient at the current merge is not usable",
            hint="Look at the loss of the task plug-in: it returns NaN or overflows.",
            of_node=True,
        )
    table = per_group({v: groups for v, groups in scores.items() if v not in refused}, options.by_group)
    if lost:
        return Proposal(
            moves={}, gap=inf, gap_by_group={}, score={}, why=dict.fromkeys(refused, Why.REFUSED), refused=refused
        )
    _check(state, scores, table)
    moves = {group: _move(state.of(group), row, options.variant) for group, row in table.items()}
    gaps = {group: move.gap for group, move in moves.items()}
    moving = {group: move for group, move in moves.items() if move.gap > 0.0}
    score = _total_scores(state, table)
    why = {vertex: _why(vertex, value, state, moving) for vertex, value in score.items()}
    why |= dict.fromkeys(refused, Why.REFUSED)
    return Proposal(moves=moving, gap=fsum(gaps.values()), gap_by_group=gaps, score=score, why=why, refused=refused)


def advance(state: State, proposal: Proposal, gamma: float | Mapping[str, float]) -> State:
    """The state after a step of ``gamma``, one for all groups or one each; a group goes no further than its gamma_max.

    At gamma_max of an away or pairwise step the away vertex is gone exactly. Refused vertices are gone in any case.
    """
    weights = dict(without(state, proposal.refused.keys()).weights)
    for group, move in proposal.moves.items():
        wanted = gamma if isinstance(gamma, float | int) else gamma.get(group, 0.0)
        weights[group] = _stepped(weights.get(group, {}), move, min(max(wanted, 0.0), move.gamma_max))
    kept = {group: values for group, values in weights.items() if values}
    return replace(state, weights=kept, round=state.round + 1)


def _move(weights: Mapping[str, float], row: Mapping[str, float], variant: str) -> Move:
    here = current(weights, row)
    best = min((BASE, *row), key=lambda vertex: rank(vertex, row))
    at_best = row.get(best, 0.0)
    gap = max(here - at_best, 0.0)
    toward = Move(toward=best, away=None, gamma_max=1.0, gap=gap, slope=-gap)
    if variant == "plain":
        return toward
    active = [*weights, BASE] if base_weight(weights) > 0.0 else [*weights]
    worst = max(active, key=lambda vertex: rank(vertex, row))
    at_worst = row.get(worst, 0.0)
    weight = base_weight(weights) if worst == BASE else weights[worst]
    if variant == "pairwise":
        return replace(toward, away=worst, gamma_max=min(weight, 1.0), slope=at_best - at_worst)
    if at_worst - here > gap and weight < 1.0:  # then its weight is below one half, so gamma_max below 1
        return Move(
            toward=None, away=worst, gamma_max=min(weight / (1.0 - weight), 1.0), gap=gap, slope=here - at_worst
        )
    return toward


def _stepped(weights: Mapping[str, float], move: Move, gamma: float) -> dict[str, float]:
    if move.toward is None:
        after = {vertex: (1.0 + gamma) * weight for vertex, weight in weights.items()}
    elif move.away is None:
        after = {vertex: (1.0 - gamma) * weight for vertex, weight in weights.items()}
    else:
        after = dict(weights)
    if move.toward not in (None, BASE):
        after[str(move.toward)] = after.get(str(move.toward), 0.0) + gamma
    if move.away is not None and move.away != BASE:
        after[move.away] = 0.0 if gamma >= move.gamma_max else after[move.away] - gamma
    if move.away == BASE and gamma >= move.gamma_max:  # the rest is nothing: it may be so up to rounding only
        total = fsum(after.values())
        after = {vertex: weight / total for vertex, weight in after.items()}
    return settled(after)


def _check(state: State, scores: Scores, table: Mapping[str, Mapping[str, float]]) -> None:
    assert BASE not in scores, "the base has the score 0 and none of its own"
    unscored = sorted(state.vertices() - scores.keys())
    if unscored:
        raise UsageError(f"{unscored[0]} has weight and no score", hint="Call warm_start when contents leave the pool.")
    strange = sorted(group for group, weights in state.weights.items() if weights and group not in table)
    if strange and table:
        raise UsageError(
            f"the weights know a group {strange[0]!r} that no score has",
            hint="Use by_groups to go on by layer group from a selection for the whole model.",
        )


def _total_scores(state: State, table: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    here = fsum(current(state.of(group), row) for group, row in table.items())
    vertices: Iterable[str] = sorted({vertex for row in table.values() for vertex in row})
    return {vertex: fsum(row[vertex] for row in table.values()) - here for vertex in vertices}


def _why(vertex: str, score: float, state: State, moves: Mapping[str, Move]) -> Why:
    if any(move.toward == vertex for move in moves.values()):
        return Why.CHOSEN
    if any(move.away == vertex for move in moves.values()):
        return Why.AWAY
    if any(vertex in weights for weights in state.weights.values()):
        return Why.HELD
    return Why.OUTDONE if score < 0.0 else Why.USELESS
