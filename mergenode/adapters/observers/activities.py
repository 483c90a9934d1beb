"""Long work under way, collected from what a node tells its observers."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import NamedTuple

from mergenode.maths.pace import Pace, advanced, begun
from mergenode.ports.activity import BESIDE, Activity
from mergenode.ports.clock import Clock
from mergenode.ports.observer import Progress

MAX_ACTIVITIES = 64
"""At once; what begins beyond is not shown. A node does a few things at a time, whoever calls it."""

Work = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Running:
    """One piece of work: the newest word of it, and its pace. ``since``: wall clock at its start. ``order``: of starts.

    ``pace`` is of bytes where bytes measure the work, else of steps.
    """

    progress: Progress
    pace: Pace
    since: str
    order: int

    @property
    def started(self) -> float:
        return self.pace.started

    @property
    def advanced(self) -> float:
        """When it last got further, monotonic seconds."""
        return self.pace.moved

    @property
    def in_bytes(self) -> bool:
        return self.progress.bytes_total > 0 or self.progress.bytes_done > 0

    def bytes_per_second(self, now: float) -> float | None:
        """None: not known, or bytes do not measure it."""
        return self.pace.rate() if self.in_bytes else None

    def seconds_remaining(self, now: float) -> float | None:
        """None: not known."""
        progress = self.progress
        return self.pace.remaining(now, progress.bytes_total if self.in_bytes else progress.tensors_total)

    def activity(self, now: float) -> Activity:
        """As everybody is shown it."""
        progress = self.progress
        return Activity(
            kind=progress.activity,
            subject=progress.subject,
            peer=progress.peer,
            bytes_done=progress.bytes_done,
            bytes_total=progress.bytes_total,
            taken_over_bytes=progress.free_bytes,
            steps_done=progress.tensors_done,
            steps_total=progress.tensors_total,
            step=progress.step,
            started=self.since,
            elapsed_seconds=max(0.0, now - self.pace.started),
            unit="bytes" if self.in_bytes else progress.step,
            rate=self.pace.rate(),
            remaining_seconds=self.seconds_remaining(now),
            silent_seconds=max(0.0, now - self.pace.moved),
            waits_for=progress.waits_for,
        )


class Picture(NamedTuple):
    """What is under way now: all of it in the order of its start, and what the loop is busy with, the innermost."""

    activities: tuple[Activity, ...]
    innermost: Running | None


class ActivityBook:
    """Remembers the work that was told of and is not over. Any thread may tell and ask.

    Each piece of work is told of by one thread. That takes no lock but where work begins and ends: a word replaces the
    one before it, and who asks sees the one or the other, whole.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._running: dict[Work, Running] = {}
        self._begun = 0

    def progress(self, progress: Progress) -> None:
        known = self._running.get(progress.work)
        if progress.over:
            if known is not None:
                with self._lock:
                    self._running.pop(progress.work, None)
        elif known is None:
            self._begin(progress)
        else:
            self._running[progress.work] = _advance(known, progress, self._clock.monotonic())

    def forget(self, kinds: Collection[str]) -> None:
        """Work of these kinds has ended, if it was not said."""
        with self._lock:
            for work in [work for work in self._running if work[0] in kinds]:
                self._running.pop(work, None)

    def picture(self, now: float) -> Picture:
        """``now``: monotonic seconds of the same clock."""
        with self._lock:  # a word may come meanwhile, a new piece of work or an end may not
            running = sorted(self._running.values(), key=lambda each: each.order)
        own = [each for each in running if each.progress.activity not in BESIDE]
        return Picture(tuple(each.activity(now) for each in running), own[-1] if own else None)

    def _begin(self, progress: Progress) -> None:
        done, free = (
            (progress.bytes_done, progress.free_bytes)
            if progress.bytes_total > 0 or progress.bytes_done > 0
            else (progress.tensors_done, progress.tensors_done)
        )
        with self._lock:
            if len(self._running) < MAX_ACTIVITIES:
                self._begun += 1
                pace = begun(self._clock.monotonic(), done, free)
                self._running[progress.work] = Running(progress, pace, self._clock.now(), self._begun)


def _advance(known: Running, progress: Progress, now: float) -> Running:
    before = known.progress
    in_bytes = progress.bytes_total > 0 or progress.bytes_done > 0
    pace = known.pace
    if in_bytes and not known.in_bytes:  # the size became known on the way
        pace = replace(begun(now, progress.bytes_done, progress.free_bytes), started=pace.started)
    elif in_bytes:
        pace = advanced(pace, now, progress.bytes_done, progress.free_bytes)
    else:
        pace = advanced(pace, now, progress.tensors_done)
    shown = replace(
        progress,
        bytes_done=max(progress.bytes_done, before.bytes_done),
        tensors_done=max(progress.tensors_done, before.tensors_done),
    )
    return replace(known, progress=shown, pace=pace)
