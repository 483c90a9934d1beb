"""A bounded queue between the work and whoever takes its spans: a slow or dead receiver costs spans, never time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from mergenode.tracing.spans import Span

CAPACITY = 2048
"""Spans that wait at most, about a kilobyte each; a contribution is a dozen of them."""
BATCH = 512
EVERY_SECONDS = 5.0
LAST_SECONDS = 3.0
"""What a node that ends gives its last spans."""

EXPORTED, FAILED, DROPPED = "exported", "failed", "dropped"

Export = Callable[[Sequence[Span]], bool]
"""Hand over a batch; False or any exception: it is lost."""


class SpanQueue:
    """``put`` from any thread; one thread exports. Oldest spans go first, and are lost when that fails."""

    def __init__(
        self, export: Export, counted: Callable[[str, int], None], failed: Callable[[str], None], *,
        capacity: int = CAPACITY, every_seconds: float = EVERY_SECONDS,
    ) -> None:  # fmt: skip
        """``counted``: so many spans were ``exported``, ``failed`` or ``dropped``. ``failed``: one line about why."""
        self._export, self._counted, self._failed = export, counted, failed
        self._capacity, self._every = capacity, every_seconds
        self._waiting: deque[Span] = deque()
        self._changed = threading.Condition()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="mergenode-spans", daemon=True)
        self._thread.start()

    def put(self, span: Span) -> None:
        """Take a span, or count it as dropped when the queue is full. Never waits for the receiver, never raises."""
        with self._changed:
            full = self._ending or len(self._waiting) >= self._capacity
            if not full:
                self._waiting.append(span)
                if len(self._waiting) >= BATCH:
                    self._changed.notify()
        if full:
            self._counted(DROPPED, 1)

    def close(self, seconds: float = LAST_SECONDS) -> bool:
        """Export what waits, for at most so long; the rest is dropped. False: the receiver still holds the thread."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join(seconds)
        with self._changed:
            left = len(self._waiting)
            self._waiting.clear()
        if left:
            self._counted(DROPPED, left)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._ending and len(self._waiting) < BATCH:
                    self._changed.wait(self._every)
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                if not batch and self._ending:
                    return
            if batch:
                self._hand_over(batch)

    def _hand_over(self, batch: Sequence[Span]) -> None:
        try:
            taken, why = self._export(batch), "it did not take them"
        except Exception as error:  # noqa: BLE001 - whatever a receiver or its library does, the node goes on
            taken, why = False, f"{type(error).__name__}: {error}"[:300]
        self._counted(EXPORTED if taken else FAILED, len(batch))
        if not taken:
            self._failed(f"spans do not reach their collector: {why}")
