"""The threads of the intake and how many may use them: bounded in all and for each pusher."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import grpc

from mergenode.adapters.peers.intake.intake_refusals import RefusedError
from mergenode.adapters.peers.intake.put_stream import PutTimes
from mergenode.wire.v1.objects_pb2 import Refusal

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeRules:
    """``most_streams``: that may be open at once, each with up to three blocks in memory; ``most_per_pusher``: of one.

    ``busy_ms``: after which those who are refused may come again.
    """

    lineage: str
    most_streams: int = 16
    most_per_pusher: int = 4
    busy_ms: int = 2000
    times: PutTimes = field(default_factory=PutTimes)


class IntakeWork:
    """Belongs to one event loop, but for ``ending``, ``check_ending`` and ``close``."""

    def __init__(self, rules: IntakeRules) -> None:
        self._rules = rules
        self._light = ThreadPoolExecutor(4, thread_name_prefix="intake")
        self._heavy = ThreadPoolExecutor(2, thread_name_prefix="intake-model")
        self._streams: Counter[str] = Counter()
        self._at_work: set[str] = set()
        self.ending = threading.Event()

    def check_ending(self) -> None:
        """Raises RefusedError (DRAINING) once the node is about to stop."""
        if self.ending.is_set():
            raise RefusedError(
                grpc.StatusCode.UNAVAILABLE,
                "the node is about to stop",
                code=Refusal.CODE_DRAINING,
                hint="Push again when it is back; what arrived is kept.",
                retry_after_ms=self._rules.busy_ms,
            )

    def close(self) -> None:
        """End the threads after what they do. Idempotent."""
        self.ending.set()
        self._light.shutdown()
        self._heavy.shutdown()

    @contextmanager
    def stream(self, pusher: str) -> Iterator[None]:
        """Counts one open stream. Raises RefusedError (BUSY)."""
        rules = self._rules
        if self._streams[pusher] >= rules.most_per_pusher or self._streams.total() >= rules.most_streams:
            raise self._busy("as many streams are open as there may be at once")
        self._streams[pusher] += 1
        try:
            yield
        finally:
            self._streams[pusher] -= 1
            self._streams += Counter()  # forget those with none

    async def light(self, work: Callable[[], Result]) -> Result:
        """In a thread for short work. It goes on to its end even when nobody waits any more."""
        return await self._done(self._light, work)

    async def heavy(self, pusher: str, work: Callable[[], Result]) -> Result:
        """In a thread for work on whole models, one piece per pusher. Raises RefusedError (BUSY)."""
        if pusher in self._at_work:
            raise self._busy("another model of this pusher is being checked")
        self._at_work.add(pusher)
        return await self._done(self._heavy, work, lambda: self._at_work.discard(pusher))

    async def _done(
        self, pool: ThreadPoolExecutor, work: Callable[[], Result], after: Callable[[], None] = lambda: None
    ) -> Result:
        future = asyncio.get_running_loop().run_in_executor(pool, work)

        def finished(done: asyncio.Future[Result]) -> None:
            after()
            if not done.cancelled():
                done.exception()  # looked at, so that an abandoned one is not complained about

        future.add_done_callback(finished)
        return await asyncio.shield(future)

    def _busy(self, message: str) -> RefusedError:
        return RefusedError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            message,
            code=Refusal.CODE_BUSY,
            hint="Come again in a moment.",
            retry_after_ms=self._rules.busy_ms,
        )
