"""The soft variant: the k best vertices of a round join at once, and all weights are fitted on the simplex.

Chen et al. 2025 (arXiv 2503.12649) move to theta + sum_j lambda_j (s_j - theta), with lambda fitted by projected
gradient. Two deviations. Not theta as a whole but every vertex that has weight in it takes part: that hull holds the
paper's, is read at the same cost, and lets a vertex lose its weight (the fully corrective variant of Lacoste-Julien and
Jaggi 2015, algorithm 3, solved in part). And the coefficients stay on the simplex, which the published code does not
enforce.

In barycentric weights the gradient is simply (a_i), with 0 for the base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import fsum, inf

from mergenode.selectors.barycentric import settled
from mergenode.selectors.contract import BASE, State, base_weight
from mergenode.selectors.inner_products import best_first, current
from mergenode.selectors.simplex import project_to_simplex

Points = Mapping[str, tuple[str, ...]]
"""Group -> who takes part: contents or ``base``."""

Coefficients = Mapping[str, tuple[float, ...]]
"""Group -> one number for each of its points: weights on the simplex, or derivatives in them."""


def choose(state: State, table: Mapping[str, Mapping[str, float]], count: int) -> Points:
    """Per group the vertices that have weight, and of the others the best ``count`` with <g, s - theta> < 0.

    Of those with the same score only the first takes part: a copy does not take the place of another model. Groups
    where nothing can be gained are left out.

    Args:
        state: where the round starts.
        table: group -> content -> a_i, finite (``inner_products.per_group``).
        count: how many may join.
    """
    points: dict[str, tuple[str, ...]] = {}
    for group, row in table.items():
        weights = state.of(group)
        here = current(weights, row)
        held = ([BASE] if base_weight(weights) > 0.0 else []) + sorted(weights)
        known = {row.get(vertex, 0.0) for vertex in held}
        joining: dict[float, str] = {}
        for vertex in best_first(row):
            value = row.get(vertex, 0.0)
            if value < here and value not in known:
                joining.setdefault(value, vertex)
        if min((*known, *joining)) < here:
            points[group] = (*held, *tuple(joining.values())[:count])
    return points


def resting(state: State, points: Points) -> dict[str, tuple[float, ...]]:
    """The weights of the points in ``state``."""
    found = {}
    for group, vertices in points.items():
        weights = {BASE: base_weight(state.of(group)), **state.of(group)}
        found[group] = tuple(weights.get(vertex, 0.0) for vertex in vertices)
    return found


def slopes(points: Points, table: Mapping[str, Mapping[str, float]]) -> dict[str, tuple[float, ...]]:
    """The derivative of the loss in each weight: a_i, from the scores where the weights lead to."""
    return {
        group: tuple(table.get(group, {}).get(vertex, 0.0) for vertex in vertices) for group, vertices in points.items()
    }


def soft_step(weights: Sequence[float], gradient: Sequence[float], rate: float) -> tuple[float, ...]:
    """One projected gradient step: the projection of ``weights - rate * gradient`` to the simplex."""
    moved = [weight - rate * slope for weight, slope in zip(weights, gradient, strict=True)]
    return project_to_simplex(moved)


def spectral_rate(moved: Mapping[str, Sequence[float]], turned: Mapping[str, Sequence[float]]) -> float:
    """The next rate, <s, s> / <s, y>, after a change s of the weights and y of the derivatives (Barzilai and Borwein).

    Infinite where the loss does not bend upwards.
    """
    length = fsum(value * value for values in moved.values() for value in values)
    bend = fsum(s * y for group, values in moved.items() for s, y in zip(values, turned[group], strict=True))
    return length / bend if bend > 0.0 else inf


def between(start: Coefficients, end: Coefficients, share: float) -> dict[str, tuple[float, ...]]:
    """(1 - share) start + share end."""
    return {
        group: tuple((1.0 - share) * a + share * b for a, b in zip(values, end[group], strict=True))
        for group, values in start.items()
    }


def placed(state: State, points: Points, coefficients: Coefficients) -> State:
    """The state with these weights in the groups that take part. The round stays."""
    weights = dict(state.weights)
    for group, vertices in points.items():
        named = zip(vertices, coefficients[group], strict=True)
        weights[group] = settled({vertex: weight for vertex, weight in named if vertex != BASE})
    return replace(state, weights={group: values for group, values in weights.items() if values})
