"""How far a round goes: the schedule, the short step, and points of the line at which the loss is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isfinite

HALVINGS = 6
"""Line search looks down to 2**-HALVINGS of the line at first."""


def schedule_step(number: int) -> float:
    """2 / (t + 2) for the round of this ``number`` t = 0, 1, ... (Jaggi 2013, algorithm 1).

    With curvature constant C of a convex objective, f(theta_t) - min f <= 2 C / (t + 2) from t = 1 on.
    """
    return 2.0 / (number + 2.0)


def short_step(gap: float, smoothness: float, distance_sq: float, gamma_max: float = 1.0) -> float:
    """min(gap / (L ||d||^2), gamma_max): the minimum of the quadratic that bounds the loss along d from above.

    ``gap`` is -<g, d> >= 0. Of a direction without length the whole is taken.
    """
    curvature = smoothness * distance_sq
    return min(gap / curvature if curvature > 0.0 else inf, gamma_max)


def line_candidates(end: float = 1.0) -> tuple[float, ...]:
    """0 and the end of the line, halved again and again, in ascending order: where to ask for the loss first."""
    return (0.0, *(end / 2**power for power in range(HALVINGS, -1, -1)))


def refined(gammas: Sequence[float], losses: Sequence[float]) -> float | None:
    """The minimum of the parabola through the best point and its two neighbours: where to ask next.

    Exact for quadratic objectives. ``None``: fewer than three finite points, or no minimum between the neighbours.
    """
    points = sorted((gamma, loss) for gamma, loss in zip(gammas, losses, strict=True) if isfinite(loss))
    if len(points) < 3:
        return None
    best = min(range(len(points)), key=lambda place: (points[place][1], points[place][0]))
    middle = min(max(best, 1), len(points) - 2)
    (left, at_left), (centre, at_centre), (right, at_right) = points[middle - 1 : middle + 2]
    falling = (at_centre - at_left) / (centre - left)
    rising = (at_right - at_centre) / (right - centre)
    bend = (rising - falling) / (right - left)
    if not bend > 0.0:
        return None
    minimum = (left + centre) / 2.0 - falling / (2.0 * bend)
    if not left < minimum < right or minimum in (left, centre, right):
        return None
    return minimum


def lowest(gammas: Sequence[float], losses: Sequence[float]) -> float:
    """The gamma with the lowest finite loss, of equal ones the smallest; 0 where no loss is finite."""
    points = [(loss, gamma) for gamma, loss in zip(gammas, losses, strict=True) if isfinite(loss)]
    return min(points)[1] if points else 0.0
