"""How long to wait before a transient failure is tried again. Chance arrives as a number, never from here."""

from __future__ import annotations

import math
from collections.abc import Mapping

from mergenode.errors import TransientReason

FIRST_SECONDS = 1.0
CAP_SECONDS = 600.0
FULL_DISK_SECONDS = 30.0
"""Of a full disk. Who freed space waits for the node, and an attempt without any space is over at once: finished parts
are kept, and it writes no more than is free."""

CAPS: Mapping[str, float] = {TransientReason.DISK_FULL: FULL_DISK_SECONDS}
"""Longest steps by reason; ``CAP_SECONDS`` of all others."""

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


def failures_until(cap_seconds: float, *, first_seconds: float = FIRST_SECONDS) -> int:
    """After how many failures in a row the step is the cap: more say nothing more.

    Example:
        >>> [failures_until(cap) for cap in (0.5, 1.0, 30.0, 600.0)]
        [1, 1, 6, 11]
    """
    return 1 + max(0, math.ceil(math.log2(cap_seconds / first_seconds)))
