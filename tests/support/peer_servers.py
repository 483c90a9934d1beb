"""gRPC servers with real sockets, and channels, for tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Protocol

import grpc
import grpc.aio

from mergenode.adapters.peers.port.channels import BULK


class Service(Protocol):
    def register(self, server: grpc.aio.Server) -> None: ...


class _SharedLoop:
    """One event loop for all servers of a process: grpc wakes loops by one socket, and with several of them wake-ups
    get lost. A node has one anyway."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, daemon=True).start()

    def do(self, action: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(action, self._loop).result(30)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()


@cache
def _shared_loop() -> _SharedLoop:
    return _SharedLoop()


class ThreadedServer:
    """A ``grpc.aio`` server on the loop that all servers of the process share."""

    def __init__(self, *services: Service, address: str = "127.0.0.1:0", credentials: Any = None) -> None:
        self._server: Any = None
        self.port: int = _shared_loop().do(self._start(services, address, credentials))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Stop accepting, end what runs."""
        _shared_loop().do(self._server.stop(None))

    async def _start(self, services: Sequence[Service], address: str, credentials: Any) -> int:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        for service in services:
            service.register(self._server)
        if credentials is None:
            port = self._server.add_insecure_port(address)
        else:
            port = self._server.add_secure_port(address, credentials)
        await self._server.start()
        return int(port)


@contextmanager
def serving(*services: Service, **options: Any) -> Iterator[ThreadedServer]:
    server = ThreadedServer(*services, **options)
    try:
        yield server
    finally:
        server.stop()


def insecure_channel(address: str, window: int | None = None) -> grpc.Channel:
    """``window``: what the server may send ahead of the reader, where a small model is to be stalled on."""
    narrow = {} if window is None else {"grpc.http2.lookahead_bytes": window}
    return grpc.insecure_channel(address, options=list({**dict(BULK), **narrow}.items()))


def secure_channel(credentials: grpc.ChannelCredentials) -> Callable[[str], grpc.Channel]:
    return lambda address: grpc.secure_channel(
        address, credentials, options=[*BULK, ("grpc.ssl_target_name_override", "localhost")]
    )
