"""One piece of long work, told to an observer: when it begins, now and then, and in any case when it ends."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from mergenode.ports.observer import Observer, Progress

PARTS = 100
"""A piece of work is told of at most so many times by its bytes, and as many times by its steps."""
MOST_BYTES = 64 << 20
"""Bytes after which it is told in any case: liveness needs signs of life from very large models, too."""


class Told:
    """A context manager; for one thread. What passes between two tellings costs two additions and two comparisons.

    Args:
        total_bytes, total_steps: 0: not known.
        step: what steps count (tensors, batches, rounds).
        peer: the other side of a transfer.
    """

    def __init__(
        self, observer: Observer, activity: str, subject: str, *, total_bytes: int = 0, total_steps: int = 0,
        step: str = "tensors", peer: str = "",
    ) -> None:  # fmt: skip
        self._observer, self._activity, self._subject, self._step, self._peer = observer, activity, subject, step, peer
        self._total_bytes, self._total_steps = total_bytes, total_steps
        self._every_bytes = min(MOST_BYTES, max(1, total_bytes // PARTS or 4 << 20))
        self._every_steps = max(1, total_steps // PARTS)
        self._bytes = self._steps = self._free = 0
        self._next_bytes = self._next_steps = 0

    def __enter__(self) -> Self:
        self._tell()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tell(over=True)

    @property
    def steps(self) -> int:
        """Steps that are done."""
        return self._steps

    def add(self, steps: int, nbytes: int, *, free: bool = False) -> None:
        """So much more is done. ``free``: it was finished before, or needed no work; it says nothing about the rate."""
        self._steps += steps
        self._bytes += nbytes
        if free:
            self._free += nbytes
        if self._bytes >= self._next_bytes or self._steps >= self._next_steps:
            self._tell()

    def at(self, steps: int, total_steps: int) -> None:
        """So many steps are done, of so many (0: nobody knows)."""
        if total_steps != self._total_steps:
            self._total_steps, self._every_steps, self._next_steps = total_steps, max(1, total_steps // PARTS), 0
        self.add(steps - self._steps, 0)

    def at_bytes(self, done: int, total: int) -> None:
        """So many bytes are done, of so many."""
        if total != self._total_bytes:
            self._total_bytes = total
            self._every_bytes = min(MOST_BYTES, max(1, total // PARTS))
            self._next_bytes = 0
        self.add(0, done - self._bytes)

    def _tell(self, *, over: bool = False) -> None:
        self._next_bytes = self._bytes + self._every_bytes
        self._next_steps = self._steps + self._every_steps
        done = min(self._bytes, self._total_bytes) if self._total_bytes else self._bytes
        self._observer.progress(
            Progress(
                self._activity, self._subject, self._steps, self._total_steps, done, self._total_bytes,
                step=self._step, peer=self._peer, free_bytes=min(self._free, done), over=over,
            )
        )  # fmt: skip
