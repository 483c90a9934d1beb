"""HTTP connections that cannot hold a node up: each ends in bounded time, and their number is bounded."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 30.0
"""From the connection, or the previous answer, to the end of the next answer."""

MAX_CONNECTIONS = 512
"""Well below the usual 1024 descriptors of a process, which the folds need too."""


class BoundedConnection(H11Protocol):
    """An HTTP/1.1 connection with a deadline.

    The deadline covers what the server leaves open: a request that trickles in, a body that never ends, an
    answer that nobody reads. When one connection too many arrives, the one that has been open longest is cut.
    """

    deadline: asyncio.TimerHandle | None = None
    opened_at: float = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows BaseTransport too
        super().connection_made(transport)
        self.opened_at = self.loop.time()
        self._arm()
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._arm()
        super().on_response_complete()

    def _make_room(self) -> None:
        # Several can arrive before the loop takes note of a cut one: those that are closing do not count.
        open_ones = [
            other
            for other in self.connections
            if isinstance(other, BoundedConnection) and not other.transport.is_closing()
        ]
        if len(open_ones) > MAX_CONNECTIONS:
            min(open_ones, key=lambda connection: connection.opened_at).transport.abort()

    def _arm(self) -> None:
        self._disarm()
        self.deadline = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _disarm(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None
