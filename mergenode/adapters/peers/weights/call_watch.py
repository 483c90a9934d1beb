"""Ends a call that is being served: when its receiver takes nothing for too long, or when it was replaced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

_STATUS_SECONDS = 5.0
"""How long the last word may take; the connection may be dead."""


class CallWatch:
    """Made in the task that serves the call. Costs one timer per call and nothing per message."""

    def __init__(self, context: Any, stalled_seconds: float) -> None:
        """``context``: of the call. ``stalled_seconds``: between two messages that leave."""
        task = asyncio.current_task()
        assert task is not None
        self.left = asyncio.Event()
        """Set by who serves: the place of the call is free, if not its last word said."""
        self._task: asyncio.Task[Any] = task
        self._context, self._seconds = context, stalled_seconds
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._timer = self._loop.call_later(stalled_seconds, self._look)
        self._last_word: tuple[grpc.StatusCode, str] | None = None

    def moved(self) -> None:
        """A message left."""
        self._last = self._loop.time()

    def end(self, status: grpc.StatusCode, message: str) -> None:
        """End the call with this status, whatever it waits for. On the loop of the call."""
        if self._last_word is None:
            self._last_word = (status, message)
            self._task.cancel()

    @asynccontextmanager
    async def guarding(self) -> AsyncIterator[None]:
        """Around the serving. Without a last word the receiver of a cancelled call would wait for ever."""
        try:
            yield
        except asyncio.CancelledError:
            if self._last_word is None:
                raise
            self._task.uncancel()
            async with asyncio.timeout(_STATUS_SECONDS):
                await self._context.abort(*self._last_word)
        finally:
            self._timer.cancel()

    def _look(self) -> None:
        left = self._last + self._seconds - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self.end(grpc.StatusCode.DEADLINE_EXCEEDED, "nothing was taken for too long")
