"""How long to wait before a transient failure is tried again. Chance arrives as a number, never from here."""

from __future__ import annotations

FIRST_SECONDS = 1.0
CAP_SECONDS = 600.0

_LARGEST_EXPONENT = 60
"""Doubling more often than this is far beyond any cap; bounding it keeps the float from overflowing."""


def backoff_seconds(
    failures: int, jitter: float, *, first_seconds: float = FIRST_SECONDS, cap_seconds: float = CAP_SECONDS
) -> float:
    """Seconds to wait after ``failures`` (>= 1) failures in a row: doubling, capped, with equal jitter.

    ``jitter`` in [0, 1) is drawn by the caller; the delay lies between half of the exponential step and all
    of it, so that nodes which failed together do not come back together and none comes back at once.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog 2015, variant "equal jitter".

    Example:
        >>> [backoff_seconds(failures, jitter=0.0) for failures in (1, 2, 3, 99)]
        [0.5, 1.0, 2.0, 300.0]
    """
    doublings = min(max(failures, 1) - 1, _LARGEST_EXPONENT)
    step = min(cap_seconds, first_seconds * 2.0**doublings)
    return step * (0.5 + 0.5 * jitter)
