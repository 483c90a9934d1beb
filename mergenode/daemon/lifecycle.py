"""Start, stop, wake: signals become two questions that the work asks between its steps.

The first SIGTERM (or Ctrl-C) lets the work in hand finish within ``drain_seconds``; after that, or at the second
signal, it is put down between two steps. SIGHUP wakes the loop, and has the
settings read again. Killed instead, nothing is lost either.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from mergenode.ports.clock import Clock


class Lifecycle:
    """Shared by the loop (which waits), the engine (which asks ``abandon``) and the signal handlers."""

    def __init__(
        self, clock: Clock, *, drain_seconds: float, on_stop: Callable[[], None] = lambda: None,
        on_hangup: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._clock = clock
        self._on_stop = on_stop
        self._on_hangup = on_hangup
        self._drain_seconds = drain_seconds
        self._deadline: float | None = None
        # A pipe, not an Event: a signal handler runs inside whatever the main thread is doing, and a lock that the
        # main thread holds at that moment would never be released.
        self._reading, self._writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    @property
    def draining(self) -> bool:
        """True once the node was asked to stop: no new work is begun."""
        return self._deadline is not None

    def abandon(self) -> bool:
        """True when the work in hand must be put down between two steps."""
        return self._deadline is not None and self._clock.monotonic() >= self._deadline

    def request_stop(self) -> None:
        """Ask to stop; asked twice, stop now."""
        now = self._clock.monotonic()
        self._deadline = now + self._drain_seconds if self._deadline is None else now
        self._on_stop()
        self.poke()

    def poke(self) -> None:
        """Look again now. Never carries truth, only shortens the wait. Safe from threads and signal handlers."""
        with suppress(BlockingIOError):  # full: it will wake up anyway
            os.write(self._writing, b"!")

    def wait(self, seconds: float) -> bool:
        """Sleep until poked or ``seconds`` passed; returns whether it was poked."""
        poked = bool(select.select([self._reading], [], [], seconds)[0])
        if poked:
            with suppress(BlockingIOError):
                while os.read(self._reading, 4096):
                    pass
        return poked

    def close(self) -> None:
        """Give the two descriptors back. Nobody may poke or wait any more."""
        os.close(self._reading)
        os.close(self._writing)

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Handle SIGTERM, SIGINT and SIGHUP inside the block; earlier handlers are restored afterwards."""

        def stop(_number: int, _frame: FrameType | None) -> None:
            self.request_stop()

        def wake(_number: int, _frame: FrameType | None) -> None:
            self._on_hangup()
            self.poke()

        before = {
            signal.SIGTERM: signal.signal(signal.SIGTERM, stop),
            signal.SIGINT: signal.signal(signal.SIGINT, stop),
            signal.SIGHUP: signal.signal(signal.SIGHUP, wake),
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
