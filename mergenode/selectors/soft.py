"""The soft variant: the k best vertices of a round at once, with coefficients fitted on the simplex.

Chen et al. 2025 (arXiv 2503.12649), the soft merge: theta' = theta + sum_j lambda_j (s_j - theta), lambda by projected
gradient. Two deviations. theta itself is one of the points, so lambda may sum to less than one for the s_j and a round
never has to make things worse; and lambda stays on the simplex, which the published code does not enforce.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mergenode.selectors.barycentric import settled
from mergenode.selectors.contract import BASE, State
from mergenode.selectors.inner_products import best_first, current
from mergenode.selectors.simplex import project_to_simplex

Coefficients = Mapping[str, tuple[float, ...]]
"""Group -> (what theta keeps, lambda of the first chosen vertex, of the second, ...), on the simplex."""

Chosen = Mapping[str, tuple[str, ...]]
"""Group -> the vertices (contents, or ``base``) that take part, the best first."""


def choose(state: State, table: Mapping[str, Mapping[str, float]], count: int) -> Chosen:
    """Per group at most ``count`` vertices with <g, s - theta> < 0, the best first. Groups with none are left out.

    ``table``: group -> content -> a_i, finite (``per_group``).
    """
    chosen: dict[str, tuple[str, ...]] = {}
    for group, row in table.items():
        here = current(state.of(group), row)
        better = [vertex for vertex in best_first(row) if row.get(vertex, 0.0) < here]
        if better:
            chosen[group] = tuple(better[:count])
    return chosen


def at_rest(chosen: Chosen) -> dict[str, tuple[float, ...]]:
    """Coefficients that stay at theta."""
    return {group: (1.0, *(0.0 for _ in vertices)) for group, vertices in chosen.items()}


def slopes(start: State, chosen: Chosen, table: Mapping[str, Mapping[str, float]]) -> dict[str, tuple[float, ...]]:
    """The gradient in the coefficients, from the a_i where they lead to: (<g, theta - base>, a_1, a_2, ...)."""
    return {
        group: (current(start.of(group), row), *(row.get(vertex, 0.0) for vertex in vertices))
        for group, vertices in chosen.items()
        for row in [table.get(group, {})]
    }


def soft_step(coefficients: Sequence[float], gradient: Sequence[float], rate: float) -> tuple[float, ...]:
    """One projected gradient step: the projection of ``coefficients - rate * gradient`` to the simplex."""
    moved = [value - rate * slope for value, slope in zip(coefficients, gradient, strict=True)]
    return project_to_simplex(moved)


def mixed(start: State, chosen: Chosen, coefficients: Coefficients) -> State:
    """The barycentric weights of lambda_0 theta + sum_j lambda_j s_j. The round is that of ``start``."""
    weights = {group: dict(values) for group, values in start.weights.items()}
    for group, vertices in chosen.items():
        stay, *shares = coefficients[group]
        after = {vertex: stay * weight for vertex, weight in start.of(group).items()}
        for vertex, share in zip(vertices, shares, strict=True):
            if vertex != BASE:
                after[vertex] = after.get(vertex, 0.0) + share
        weights[group] = settled(after)
    return State({group: values for group, values in weights.items() if values}, start.round)
