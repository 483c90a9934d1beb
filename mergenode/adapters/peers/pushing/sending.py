"""One attempt to push one model to one neighbour. Whether there is another one is decided elsewhere."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import grpc

from mergenode.adapters.observers.fan_out import FanOut
from mergenode.adapters.peers.pushing.local_model import LocalModel
from mergenode.adapters.peers.pushing.push_channel import is_loopback
from mergenode.adapters.peers.pushing.pushing import Pushing, PushOrder, PushReport, PushTimes
from mergenode.ports.activity import ActivityKind
from mergenode.ports.clock import Clock
from mergenode.ports.observer import Observer
from mergenode.ports.told import Told
from mergenode.tracing.spans import SILENT, Tracer

_TIMES = PushTimes(patience=math.inf, reach=math.inf)
"""The first failure ends the attempt, so nothing is left to be patient about."""


class NotNowError(Exception):
    """The neighbour was not reached, is busy, or the node ends: try again later. ``seconds``: not before these."""

    def __init__(self, message: str, seconds: float = 0.0) -> None:
        super().__init__(message)
        self.seconds = seconds


class Sending:
    """Pushes to other nodes, one at a time. ``stop`` from another thread ends the call under way."""

    def __init__(
        self, open_channel: Callable[[str], grpc.Channel], clock: Clock, tracer: Tracer = SILENT,
        observer: Observer | None = None,
    ) -> None:  # fmt: skip
        """``open_channel``: to host:port, with the credentials of now. ``observer``: told how far each push is."""
        self._open, self._clock, self._tracer = open_channel, clock, tracer
        self._observer: Observer = observer or FanOut([])
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._ending = False

    def send(self, model: LocalModel, order: PushOrder, address: str) -> PushReport:
        """What the neighbour answered. Idempotence: what it has is not sent again.

        Raises NotNowError; FatalError where it refuses; TransientError where the model changed.
        """
        told = [f"{address}: not reached"]

        def pause(seconds: float) -> None:
            raise NotNowError(told[-1], seconds)

        work = Told(self._observer, ActivityKind.TRANSFER, f"{order.name} to {address}", peer=address)
        pushing = Pushing(
            model, order, lambda: self._opened(address), address=address, clock=self._clock, pause=pause,
            compress=not is_loopback(address), times=_TIMES, tell=told.append, jitter=lambda: 0.0,
            tracer=self._tracer, watch=work.at_bytes,
        )  # fmt: skip
        try:
            with work:
                return pushing.push()
        except (grpc.FutureCancelledError, ValueError) as error:  # the channel was closed under it; no host:port
            raise NotNowError("the node ends" if self._ending else f"{address}: {error}") from error

    def stop(self) -> None:
        """Hang up, and open nothing any more."""
        with self._lock:
            self._ending = True
            if self._channel is not None:
                self._channel.close()

    def _opened(self, address: str) -> grpc.Channel:
        with self._lock:
            if self._ending:
                raise NotNowError("the node ends")
            self._channel = self._open(address)
            return self._channel
