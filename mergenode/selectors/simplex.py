"""The exact Euclidean projection to the simplex.

Duchi, Shalev-Shwartz, Singer and Chandra 2008, "Efficient projections onto the l1-ball for learning in high
dimensions", figure 1: sort, find the number rho of coordinates that stay positive, subtract one threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum


def project_to_simplex(values: Sequence[float], total: float = 1.0) -> tuple[float, ...]:
    """The point nearest to ``values`` among those with coordinates >= 0 that sum to ``total`` > 0.

    Finite input. Sums are exactly rounded (``fsum``), so the order of the coordinates changes no bit.
    The sum of the result is ``total`` up to a rounding of each coordinate.
    """
    if not values:
        return ()
    largest = max(values)
    shifted = [value - largest for value in values]  # the projection does not change, and nothing cancels
    descending = sorted(shifted, reverse=True)
    threshold = descending[0] - total
    for count in range(2, len(descending) + 1):
        candidate = (fsum(descending[:count]) - total) / count
        if descending[count - 1] <= candidate:
            break
        threshold = candidate
    return tuple(max(value - threshold, 0.0) for value in shifted)
