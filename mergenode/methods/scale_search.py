"""A short search for the scale at which a model scores best: a coarse grid, then golden section around the best point.

Scores of real models are noisy and flat around their maximum, so few points are enough. The choice is a function of
the scores alone; of equal scores the scale nearest to the method's own wins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

GOLDEN = (sqrt(5.0) - 1.0) / 2.0

_GRID = (0.5, 1.5)
"""Coarse points, in multiples of the method's own scale; own and norm rule are points too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchLimits:
    """``lowest`` and ``highest`` scale that may be tried, and how many ``evaluations`` a search may take."""

    lowest: float = 0.1
    highest: float = 3.0
    evaluations: int = 9


DEFAULT_LIMITS = SearchLimits()


@dataclass(frozen=True, slots=True)
class Found:
    """The best ``scale`` and every point that was tried, as (scale, score) in the order of evaluation."""

    scale: float
    points: tuple[tuple[float, float], ...]


def search_scale(
    score: Callable[[float], float], *, own: float, norm_rule: float | None, limits: SearchLimits
) -> Found:
    """Maximise ``score`` over the scale. ``own`` is always tried first, even outside of the limits.

    ``score`` is called at most ``limits.evaluations`` times, at least once, never twice with one scale; what it raises
    is passed on.
    """
    points: dict[float, float] = {}

    def tried(scale: float) -> float:
        if scale not in points:
            points[scale] = score(scale)
        return points[scale]

    tried(own)
    for scale in _coarse(own, norm_rule, limits):
        if len(points) < limits.evaluations:
            tried(scale)
    _golden_section(points, tried, own, limits)
    return Found(_best(points, own), tuple(points.items()))


def _coarse(own: float, norm_rule: float | None, limits: SearchLimits) -> list[float]:
    wanted = [norm_rule] if norm_rule is not None else []
    wanted += [own * factor for factor in _GRID]
    return [min(max(scale, limits.lowest), limits.highest) for scale in wanted]


def _best(points: dict[float, float], own: float) -> float:
    return min(points, key=lambda scale: (-points[scale], abs(scale - own), scale))


def _golden_section(
    points: dict[float, float], tried: Callable[[float], float], own: float, limits: SearchLimits
) -> None:
    """Narrow the bracket around the best point, always on its longer side, until the evaluations are spent."""
    while len(points) < limits.evaluations:
        best, known = _best(points, own), sorted(points)
        below = max((scale for scale in known if scale < best), default=min(limits.lowest, best))
        above = min((scale for scale in known if scale > best), default=max(limits.highest, best))
        longer = above if above - best >= best - below else below
        step = best + (1.0 - GOLDEN) * (longer - best)
        near = abs(step - best) <= 0.02 * max(abs(best), limits.lowest)
        if near or step in points or not limits.lowest <= step <= limits.highest:
            return
        tried(step)
