"""All weights of a soft round, fitted by the spectral projected gradient method.

Birgin, Martinez and Raydan 2000, "Nonmonotone spectral projected gradient methods on convex sets", algorithm 2.2 (the
line search runs along the feasible direction). Deviations: the whole step is accepted without a sufficient decrease,
and what comes back is the best point that was visited, not the last.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, nan

from mergenode.selectors.contract import BASE, Oracle, State
from mergenode.selectors.inner_products import per_group, refusals
from mergenode.selectors.line_search import all_or_search
from mergenode.selectors.soft import Coefficients, Points, between, placed, resting, slopes, soft_step, spectral_rate

MEMORY = 10
"""A step may go up, to no more than the highest of so many losses before it (the M of the paper)."""

LONGEST = 1e6
"""A step is at most this long before it is projected: with more, rounding shows."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """The best state that was visited, and the loss at the start and there."""

    state: State
    before: float
    after: float


def fit(start: State, points: Points, gradient: Coefficients, oracle: Oracle, steps: int, by_group: bool) -> Fitted:
    """At most ``steps`` steps for the weights of ``points``, from those in ``start``, where ``gradient`` was taken.

    Between steps only contents that take part or have weight are scored. A step without a lower loss, and a gradient
    that is no number, end the fit.
    """
    here, weights = start, resting(start, points)
    read = start.vertices() | frozenset(vertex for vertices in points.values() for vertex in vertices if vertex != BASE)
    best: Fitted | None = None
    losses: list[float] = []
    rate = 0.0
    for _ in range(steps):
        spread = max(max(values) - min(values) for values in gradient.values())
        if spread <= 0.0:
            break
        rate = min(rate or 1.0 / spread, LONGEST / spread)  # the first moves by the order of the simplex
        target = {group: soft_step(values, gradient[group], rate) for group, values in weights.items()}
        found = all_or_search(oracle, here, placed(start, points, target), max(losses[-MEMORY:], default=-inf))
        losses.append(found.before)
        best = best or Fitted(start, found.before, found.before)
        if found.share == 0.0:
            break
        old, weights = (weights, gradient), between(weights, target, found.share)
        here = placed(start, points, weights)
        if not found.after >= best.after:
            best = replace(best, state=here, after=found.after)
        there = oracle.scores(here, read)
        if refusals(there):
            break
        gradient = slopes(points, per_group(there, by_group))
        rate = spectral_rate(_change(weights, old[0]), _change(gradient, old[1]))
    return best or Fitted(start, nan, nan)  # without a spread there is no slope, and no loss was asked for


def _change(after: Coefficients, before: Coefficients) -> dict[str, list[float]]:
    return {group: [new - old for new, old in zip(after[group], before[group], strict=True)] for group in after}
