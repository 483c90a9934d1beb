"""How fast a long piece of work goes and how long it will still take, from when it was heard of. Pure: no clock.

An exponentially weighted mean of the rate over working time, corrected for its start like the moments of Adam (Kingma
and Ba 2015, section 3), with intervals of any length: after ``dt`` seconds the old mean keeps ``exp(-dt / memory)``.
Deviation: silence counts as work only as far as the work so far explains it; the rest is a pause, which says nothing
about the rate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp

MEMORY_SECONDS = 30.0
"""What is older counts for a third."""
MEMORY_STEPS = 8.0
"""The memory holds at least so many steps, where single steps take long."""
KNOWN_SECONDS = 2.0
"""Working time before which no rate is told."""
TICK_SECONDS = 1e-6
"""What is told within less is told at once: clocks are no finer."""
GRACE_SECONDS = 10.0
SLOWER = 4.0
"""A step may take ``GRACE_SECONDS`` and this many times what it should; what is beyond is a pause."""
SILENT_SECONDS = 60.0
SILENT_STEPS = 4.0
"""Nothing for this long, and for so many usual steps: how long it still takes cannot be said."""
LONGEST_SECONDS = 30 * 86400.0
"""What would take longer than a month is not known, rather than long."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Amounts are bytes or steps, times monotonic seconds.

    ``free``: of ``done``, what cost this run of the work nothing (finished before a kill, or taken over whole).
    ``pending``: work of ``done`` that came within one tick of the clock and waits for an interval with a length.
    ``mean`` and ``weight``: the uncorrected mean rate and the weight that it has so far, below 1. ``worked``: seconds
    of work; ``step``: seconds between two signs of progress, as a running mean.
    """

    started: float
    moved: float
    done: int = 0
    free: int = 0
    pending: int = 0
    mean: float = 0.0
    weight: float = 0.0
    worked: float = 0.0
    step: float = 0.0

    def rate(self) -> float | None:
        """Amount a second; None: not known yet."""
        if self.worked < KNOWN_SECONDS or self.weight <= 0 or self.mean <= 0:
            return None
        return self.mean / self.weight

    def is_silent(self, now: float) -> bool:
        """Nothing has moved for much longer than usual."""
        return now - self.moved > max(SILENT_SECONDS, SILENT_STEPS * self.step)

    def remaining(self, now: float, total: int) -> float | None:
        """Seconds until ``total`` is done; None: not known, because nothing moves, too little moved, or no total."""
        rate = self.rate()
        if total <= 0 or rate is None or self.is_silent(now):
            return None
        seconds = max(0.0, max(0, total - self.done) / rate - max(0.0, now - self.moved))
        return seconds if seconds <= LONGEST_SECONDS else None


def begun(now: float, done: int = 0, free: int = 0) -> Pace:
    """Work that is heard of for the first time: what is done by then took nobody knows how long."""
    return Pace(started=now, moved=now, done=done, free=max(free, done))


def advanced(pace: Pace, now: float, done: int, free: int = 0) -> Pace:
    """The pace after it was heard that ``done`` is done, ``free`` of it at no cost. What is done never becomes less."""
    done, free = max(done, pace.done), max(free, pace.free)
    if done == pace.done:
        return replace(pace, free=free)
    work = max(0, (done - free) - (pace.done - pace.free)) + pace.pending
    silence = max(0.0, now - pace.moved)
    seconds = min(silence, _longest(pace, work)) if work else 0.0
    if seconds < TICK_SECONDS:  # taken over, or told within one tick of the clock: no sign of how fast the rest goes
        moved = pace.moved if work else max(now, pace.moved)
        return replace(pace, done=done, free=free, pending=work, moved=moved)
    keep = exp(-seconds / max(MEMORY_SECONDS, MEMORY_STEPS * pace.step))
    return Pace(
        started=pace.started,
        moved=now,
        done=done,
        free=free,
        mean=pace.mean * keep + (work / seconds) * (1.0 - keep),
        weight=pace.weight * keep + (1.0 - keep),
        worked=pace.worked + seconds,
        step=seconds if not pace.step else 0.8 * pace.step + 0.2 * seconds,
    )


def _longest(pace: Pace, work: int) -> float:
    """The most seconds that so much work may have taken."""
    if pace.weight <= 0 or pace.mean <= 0:
        return float("inf")
    return GRACE_SECONDS + SLOWER * work * pace.weight / pace.mean
