"""When a pass read and when it computed. The two overlap: the next tensor is read while this one is projected."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mergenode.adapters.engines.local.pipeline import Step
from mergenode.tracing.spans import Tracer


class Stages:
    """Watches the steps of one pass. Two readings of a clock per step and stage."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._lock = threading.Lock()
        self._stages: dict[str, tuple[int, int, int]] = {}
        """First begun, last ended, and how long all steps took together; nanoseconds."""

    def watch(self, steps: Iterator[Step]) -> Iterator[Step]:
        """The same steps, timed."""
        for step in steps:
            yield step._replace(read=self._reading(step.read), compute=self._computing(step.compute))

    def tell(self, trace_id: str) -> None:
        """A span each for ``read`` and ``project``, in the span that is open here. ``busy_seconds``: of all threads."""
        for name, (begun, ended, busy) in self._stages.items():
            self._tracer.record(name, trace_id, begun, ended, busy_seconds=busy / 1e9)

    def _reading(self, read: Callable[[], Any]) -> Callable[[], Any]:
        def timed() -> Any:
            with self._timed("read"):
                return read()

        return timed

    def _computing(self, compute: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def timed(box: Any) -> Any:
            with self._timed("project"):
                return compute(box)

        return timed

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        begun = self._tracer.now()
        try:
            yield
        finally:
            ended = self._tracer.now()
            with self._lock:
                first, last, busy = self._stages.get(name, (begun, ended, 0))
                self._stages[name] = (min(first, begun), max(last, ended), busy + max(0, ended - begun))
