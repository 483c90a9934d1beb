"""The gRPC port of a node: one server, in a thread with an event loop of its own.

A handler must not block that loop; work on disks belongs into ``asyncio.to_thread``, for which the loop keeps a few
threads. Settings of the transport are those of ``channels`` and of docs/peers.md.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from mergenode.adapters.http.listener import listen
from mergenode.adapters.peers.access.authorising import HEALTH, REFLECTION, Authoriser
from mergenode.adapters.peers.port.addresses import joined
from mergenode.adapters.peers.port.channels import KEEPALIVE, KEEPALIVE_PATIENCE_MS, LIMITS
from mergenode.adapters.peers.port.draining import Draining
from mergenode.errors import FatalError

START_SECONDS = 30.0
STOP_SECONDS = 15.0
_CONTROL_SECONDS = 2.0
_STREAMS = 64
_OLDEST_MS = 3_600_000
_OLDEST_GRACE_MS = 600_000
_DISK_THREADS = 4

OPTIONS: tuple[tuple[str, Any], ...] = (
    *LIMITS,
    *KEEPALIVE,
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_PATIENCE_MS),
    ("grpc.max_concurrent_streams", _STREAMS),
    ("grpc.max_connection_age_ms", _OLDEST_MS),  # grpc takes 10 % more or less: reconnections spread
    ("grpc.max_connection_age_grace_ms", _OLDEST_GRACE_MS),
    ("grpc.so_reuseport", 0),  # or two nodes would share a port and know nothing of it
)

Result = TypeVar("Result")
Register = Callable[[grpc.aio.Server], None]


@dataclass(frozen=True, slots=True)
class Port:
    """Where to listen. ``credentials`` None: no TLS. ``setting``: its name, for messages."""

    host: str
    port: int
    credentials: grpc.ServerCredentials | None = None
    setting: str = "peers.listen"


class PeerServer:
    """Starts once, stops once. All methods may be called from any thread but the server's own."""

    def __init__(
        self, ports: Sequence[Port], register: Sequence[Register], authoriser: Authoriser, *, reflect: bool = False
    ) -> None:
        """``register``: functions such as ``lambda server: add_PeerServicer_to_server(servicer, server)``.

        They are called on the server's loop. Handlers are coroutine functions or asynchronous generators. Every call
        that they add needs a line in ``authorising.RULES``. ``reflect``: tell admins which services there are.
        """
        self._ports, self._register, self._authoriser, self._reflect = ports, register, authoriser, reflect
        self._thread = threading.Thread(target=self._run, name="mergenode-peers", daemon=True)
        self._server: grpc.aio.Server | None = None
        self._health = health.HealthServicer()
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> list[tuple[str, int]]:
        """Listen and serve; returns host and port of each of the ports, in their order.

        Raises:
            FatalError: a port cannot be listened on (named, with what holds it), or nothing came up.
        """
        self._loop = asyncio.new_event_loop()
        self._thread.start()
        try:
            return self.call_soon(self._open()).result(START_SECONDS)
        except TimeoutError as error:
            self.stop(0.0)
            raise FatalError("the gRPC server did not start", hint="see the log for the cause") from error
        except BaseException:
            self.stop(0.0)
            raise

    @property
    def draining(self) -> Draining:
        """Transfers under way, and whether new ones are taken."""
        return self._authoriser.draining

    def call_soon(self, coroutine: Coroutine[Any, Any, Result]) -> concurrent.futures.Future[Result]:
        """Run a coroutine on the server's loop, where channels that it opens belong from then on.

        It is cancelled when the server stops; whoever opened channels closes them before.

        Raises:
            RuntimeError: the server does not run.
        """
        try:
            if self._loop is None:
                raise RuntimeError("the gRPC server was not started")
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            raise

    def drain(self) -> int:
        """Take no new transfers, and let health say so; returns how many are under way. Idempotent."""
        self.draining.begin()
        with contextlib.suppress(RuntimeError):  # it has ended already
            self.call_soon(self._health.enter_graceful_shutdown())
        return self.draining.transfers

    def stop(self, grace: float) -> bool:
        """Drain, let transfers finish for ``grace`` seconds, end all other calls within two, and join.

        False when the thread was still busy after fifteen more seconds; it is a daemon thread and ends with the
        process. Idempotent.
        """
        self.drain()
        self.draining.wait(grace)
        with contextlib.suppress(RuntimeError):
            self.call_soon(self._end())
        if self._thread.ident is not None:
            self._thread.join(_CONTROL_SECONDS + STOP_SECONDS)
        return not self._thread.is_alive()

    async def _end(self) -> None:
        self._stopping.set()

    def _run(self) -> None:
        loop = self._loop
        assert loop is not None
        loop.set_exception_handler(_noted)
        disk = concurrent.futures.ThreadPoolExecutor(_DISK_THREADS, thread_name_prefix="mergenode-peers-disk")
        loop.set_default_executor(disk)
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(self._live())

    async def _live(self) -> None:
        await self._stopping.wait()
        if self._server is not None:
            await self._server.stop(_CONTROL_SECONDS)

    async def _open(self) -> list[tuple[str, int]]:
        self._server = grpc.aio.server(interceptors=[self._authoriser], options=OPTIONS)
        services = self._add_services(self._server)
        bound = [(port.host, _bind(self._server, port)) for port in self._ports]
        await self._server.start()
        for service in services:
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        return bound

    def _add_services(self, server: grpc.aio.Server) -> Sequence[str]:
        recorder = _Recorder(server)
        for register in self._register:
            register(cast(grpc.aio.Server, recorder))
        unruled = sorted(recorder.methods - self._authoriser.rules.keys())
        assert not unruled, f"calls without a line in authorising.RULES: {unruled}"
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if self._reflect:
            names = [*sorted(recorder.services), HEALTH, REFLECTION]
            servicer = reflection.aio.ReflectionServicer(names)
            reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
        return sorted(recorder.services)


class _Recorder:
    """Passes handlers on to a server and remembers what was registered."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server
        self.services: set[str] = set()
        self.methods: set[str] = set()

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        for handler in generic_rpc_handlers:
            if isinstance(handler, grpc.ServiceRpcHandler):
                self.services.add(handler.service_name())
        self._server.add_generic_rpc_handlers(generic_rpc_handlers)

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        self.services.add(service_name)
        self.methods |= {f"/{service_name}/{method}" for method in method_handlers}
        self._server.add_registered_method_handlers(service_name, method_handlers)


def _bind(server: grpc.aio.Server, port: Port) -> int:
    if port.port:
        listen(port.host, port.port, setting=port.setting).close()  # says better than grpc why it cannot be
    address = joined(port.host, port.port)
    try:
        if port.credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, port.credentials)
    except RuntimeError as error:
        raise FatalError(
            f"cannot listen on {address}: {error}", hint=f"set {port.setting} to another address or port"
        ) from error


def _noted(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # Loops of one process share a socket that grpc wakes them by; all wake, one reads, the others find nothing.
    woken_for_nothing = isinstance(context.get("exception"), BlockingIOError)
    if not (woken_for_nothing and "PollerCompletionQueue" in str(context.get("handle"))):
        loop.default_exception_handler(context)
