"""Whether a sequence of sizes shifts slowly: always the same way, too little at a time for a bound on single ones."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, log, nan
from statistics import median

NORMAL = 1.4826
"""Standard deviation over median absolute deviation of normal numbers (Rousseeuw and Croux 1993)."""

LEAST_SPREAD = 0.05
"""Sizes that are all alike are taken to vary by a twentieth."""

MOST = 4.0
"""Single sizes count at most so many standard deviations: what is far out alone is for other bounds."""

NEWEST, LEAST, EARLIER = 8, 8, 64
"""The newest sizes are compared with earlier ones, of which there have to be ``LEAST`` and ``EARLIER`` are kept."""

REMEMBERED = NEWEST + EARLIER
"""No size further back changes the answer, but for what is left of a mean that forgets a fifth at every step."""

FORGETS = 0.2


def deviation(size: float, earlier: Sequence[float]) -> float | None:
    """By how many robust standard deviations log(size) lies above the median of the logs of ``earlier``.

    In [-``MOST``, ``MOST``]; None: not defined, with fewer than ``LEAST`` that are positive and finite.
    """
    return _deviation(_log(size), [_log(each) for each in earlier])


def _log(size: float) -> float:
    """NaN where it is not defined."""
    return log(size) if isfinite(size) and size > 0 else nan


def _deviation(size: float, earlier: Sequence[float]) -> float | None:
    logs = [each for each in earlier if isfinite(each)]
    if len(logs) < LEAST or not isfinite(size):
        return None
    middle = median(logs)
    spread = max(NORMAL * median(abs(each - middle) for each in logs), LEAST_SPREAD)
    return max(-MOST, min(MOST, (size - middle) / spread))


class SlowShift:
    """An exponentially weighted mean (Roberts 1959) of deviations from what was usual some steps ago.

    Independent sizes of one distribution give a mean of zero with a third of a standard deviation: 2 is six of those.
    A shift that takes much longer than ``REMEMBERED`` steps moves what is usual along with it and is not seen.
    """

    def __init__(self) -> None:
        self._logs: list[float] = []
        self._mean: float | None = None

    def add(self, size: float) -> float | None:
        """The mean after the next size; None before there is enough to compare with."""
        # While there are few, the newest are all there is to compare with.
        newest = _log(size)
        found = _deviation(newest, self._logs[: max(LEAST, len(self._logs) - NEWEST)])
        if found is not None:
            self._mean = (1 - FORGETS) * (self._mean or 0.0) + FORGETS * found
        self._logs = [*self._logs, newest][-REMEMBERED:]
        return self._mean
