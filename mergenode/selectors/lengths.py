"""How long a task vector of the pool may count: a linear score grows with length, whatever it points at.

<g, tau> of a vector twenty times as long as the others is twenty times as low when it points downhill at all, so the
linear problem picks it, and a small step along it leaves what the gradient knows. Vectors that are much longer than
the pool's are therefore shortened: the hull is that of the shortened ones. The published method has no such bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from statistics import median_low
from typing import TypeVar

Vertex = TypeVar("Vertex", bound=str)


def shortening(norms: Mapping[Vertex, float], longest: float | None) -> dict[Vertex, float]:
    """Factors in (0, 1) by vertex, for those longer than ``longest`` times the median norm; None: nobody is too long.

    Of an even number the lower median counts. Norms that are zero or not finite say nothing about the others.
    """
    usual = [norm for norm in norms.values() if isfinite(norm) and norm > 0.0]
    if longest is None or not usual:
        return {}
    most = longest * median_low(usual)
    return {vertex: most / norm for vertex, norm in norms.items() if isfinite(norm) and norm > most}
