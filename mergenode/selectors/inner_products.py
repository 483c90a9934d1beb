"""The numbers a_i = <g, tau_i>: arranged by group, checked, ordered, averaged.

Nothing depends on the order of the candidates: sums are exactly rounded (``fsum``), ties go to the base, then to the
smallest digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import fsum

from mergenode.selectors.contract import BASE, LARGEST, WHOLE, Scores


def per_group(scores: Scores, by_group: bool) -> dict[str, dict[str, float]]:
    """Group -> content -> a_i; for the whole model the sums over all groups, below ``*``. Absent groups count as 0."""
    if not by_group:
        return {WHOLE: {vertex: fsum(values.values()) for vertex, values in scores.items()}}
    names = sorted({group for values in scores.values() for group in values})
    return {group: {vertex: values.get(group, 0.0) for vertex, values in scores.items()} for group in names}


def refusals(scores: Scores) -> dict[str, str]:
    """Content -> the first of its scores that cannot be computed with, in words."""
    found: dict[str, str] = {}
    for vertex, values in sorted(scores.items()):
        bad = [group for group in sorted(values) if not abs(values[group]) <= LARGEST]
        if bad:
            found[vertex] = f"the inner product with the gradient is {values[bad[0]]} in group {bad[0]}"
    return found


def best_first(row: Mapping[str, float]) -> list[str]:
    """The base and all contents of one group, the smallest a first; ties to the base, then to the smallest digest."""
    return sorted((BASE, *row), key=lambda vertex: rank(vertex, row))


def current(weights: Mapping[str, float], row: Mapping[str, float]) -> float:
    """sum_j w_j a_j of one group: <g, theta - base>."""
    return fsum(weight * row.get(vertex, 0.0) for vertex, weight in weights.items())


def rank(vertex: str, row: Mapping[str, float]) -> tuple[float, bool, str]:
    """The key by which vertices are ordered: a, then the base before contents, then the digest."""
    return row.get(vertex, 0.0), vertex != BASE, vertex
