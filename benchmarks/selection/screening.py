"""What a node may do about long task vectors before it selects.

The linear problem of Frank-Wolfe takes the vertex with the smallest <g, tau>, and that grows with the length of tau: a
checkpoint scaled by 20 wins by its length.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

MAX_RATIO = 5.0
"""The default of the norm gate."""

CLIP_RATIO = 2.0
"""Above what honest experts of one base differ by, so that their vectors stay as they are in every pool."""


def factors(norms: Mapping[str, float], screen: str) -> dict[str, float]:
    """Candidate -> factor of its task vector in the selection; left out: it takes no part.

    ``none``: 1 each. ``clip``: vectors are cut to twice the median length, so that the hull has no long corners.
    ``gate``: those beyond five times the median are left out, the others stay as they are.

    Raises ValueError for another name.
    """
    middle = median(norms.values())
    if screen == "none":
        return dict.fromkeys(norms, 1.0)
    if screen == "clip":
        return {name: min(1.0, CLIP_RATIO * middle / norm) if norm else 1.0 for name, norm in norms.items()}
    if screen == "gate":
        return {name: 1.0 for name, norm in norms.items() if norm <= MAX_RATIO * middle}
    raise ValueError(f"there is no screen {screen!r}")
