"""gRPC servers with real sockets for tests: in a thread, or in a process of their own that can be killed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import grpc
import grpc.aio

from mergenode.adapters.peers.weights.fetching import BULK_OPTIONS


class Service(Protocol):
    def register(self, server: grpc.aio.Server) -> None: ...


class ThreadedServer:
    """A ``grpc.aio`` server in a thread with a loop of its own."""

    def __init__(self, *services: Service, address: str = "127.0.0.1:0", credentials: Any = None) -> None:
        self._services, self._address, self._credentials = services, address, credentials
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._server: Any = None
        self.port = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._started.wait(30)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def stop(self, grace: float | None = None) -> None:
        """Stop accepting, end what runs, close the loop."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._server.stop(grace), self._loop).result(30)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(30)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _start(self) -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        for service in self._services:
            service.register(self._server)
        if self._credentials is None:
            self.port = self._server.add_insecure_port(self._address)
        else:
            self.port = self._server.add_secure_port(self._address, self._credentials)
        await self._server.start()


@contextmanager
def serving(*services: Service, **options: Any) -> Iterator[ThreadedServer]:
    server = ThreadedServer(*services, **options)
    try:
        yield server
    finally:
        server.stop()


def insecure_channel(address: str) -> grpc.Channel:
    return grpc.insecure_channel(address, options=list(BULK_OPTIONS))


def secure_channel(credentials: grpc.ChannelCredentials) -> Callable[[str], grpc.Channel]:
    return lambda address: grpc.secure_channel(
        address, credentials, options=[*BULK_OPTIONS, ("grpc.ssl_target_name_override", "localhost")]
    )
