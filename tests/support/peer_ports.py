"""A gRPC port on loopback with certificates of its own, and every call of the protocol behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor

from mergenode.adapters.peers.access.authorising import Authoriser
from mergenode.adapters.peers.access.callers import Callers, Role
from mergenode.adapters.peers.access.credentials import Tls, TlsFiles
from mergenode.adapters.peers.access.tokens import TokenVerifier
from mergenode.adapters.peers.access.trial_folder import TrialFolder
from mergenode.adapters.peers.port.draining import Draining
from mergenode.adapters.peers.port.server import PeerServer, Port, Register
from mergenode.wire.v1 import admin_pb2, blobs_pb2, intake_pb2, peer_pb2

PATTERNS = {role: (f"spiffe://mergenode/{role.value}/*",) for role in Role}
PATIENCE = 30.0
"""Seconds that no test comes near unless something hangs."""

METHODS: Mapping[str, MethodDescriptor] = {
    f"/{service.full_name}/{method.name}": method
    for module in (admin_pb2, blobs_pb2, intake_pb2, peer_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
"""Every call of mergenode.v1, from the descriptors."""


@dataclass(frozen=True)
class Trial:
    """A folder as `mergenode certs` makes it, and what callers hold."""

    path: Path

    @cached_property
    def folder(self) -> TrialFolder:
        folder = TrialFolder(self.path)
        folder.initialise(30)
        return folder

    def files(self, role: str, name: str, hosts: tuple[str, ...] = (), days: int = 5) -> TlsFiles:
        place = self.path / name
        if not place.exists():
            self.folder.issue(role, name, hosts, days)
        return TlsFiles(place / "ca.crt", place / "tls.crt", place / "tls.key")

    def node(self, told: Callable[[str], None] = lambda _: None) -> Tls:
        return Tls(self.files("peer", "node", ("localhost", "127.0.0.1")), told)

    def caller(self, role: str, name: str = "") -> grpc.ChannelCredentials:
        return Tls(self.files(role, name or f"some-{role}"), lambda _: None).channel_credentials()[0]

    def without_certificate(self) -> grpc.ChannelCredentials:
        return Tls(TlsFiles(self.path / "ca.crt"), lambda _: None).channel_credentials()[0]

    def verifier(self) -> TokenVerifier:
        _ = self.folder
        return TokenVerifier(self.path / "tokens.json", "mergenode", None, lambda _: None)

    def token(self, *lineages: str, quota: int | None = None, days: float = 1) -> str:
        return self.folder.token("team", lineages or ("mergenode",), quota, days, "mergenode")


@dataclass
class OpenPort:
    server: PeerServer
    address: str
    token_address: str = ""
    refused: list[tuple[str, str]] = field(default_factory=list)
    answered: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def open_port(
    trial: Trial | None, register: Sequence[Register] = (), *, tls: Tls | None = None, reflect: bool = False
) -> Iterator[OpenPort]:
    """With a trial: mutual TLS, and a second port for tokens. Without: plaintext, where everybody may do everything."""
    refused: list[tuple[str, str]] = []
    answered: list[tuple[str, str]] = []
    ports = [Port("127.0.0.1", 0)]
    callers = Callers(PATTERNS, trusting=True)
    if trial is not None:
        tls = tls or trial.node()
        ports = [
            Port("127.0.0.1", 0, tls.server_credentials()),
            Port("127.0.0.1", 0, tls.server_credentials(certificates=False)),
        ]
        callers = Callers(PATTERNS, trial.verifier())
    authoriser = Authoriser(
        callers, Draining(), lambda *told: refused.append(told), lambda *told: answered.append(told[:2])
    )
    server = PeerServer(ports, register, authoriser, reflect=reflect)
    bound = [f"{host}:{port}" for host, port in server.start()]
    try:
        yield OpenPort(server, bound[0], bound[-1], refused, answered)
    finally:
        assert server.stop(0.0)


def register_everything(server: grpc.aio.Server) -> None:
    """Handlers for all calls, which read all they get and answer once with an empty message."""
    for service in {
        method.containing_service.full_name: method.containing_service for method in METHODS.values()
    }.values():
        handlers = {method.name: handler_of(method) for method in service.methods}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
        server.add_registered_method_handlers(service.full_name, handlers)


def handler_of(method: MethodDescriptor) -> Any:
    request, reply = (message_factory.GetMessageClass(kind) for kind in (method.input_type, method.output_type))

    async def read(asked: Any) -> None:
        if method.client_streaming:
            async for _ in asked:
                pass

    async def one(asked: Any, context: Any) -> Any:
        await read(asked)
        return reply()

    async def several(asked: Any, context: Any) -> AsyncIterator[Any]:
        await read(asked)
        yield reply()

    makers = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    make: Any = makers[method.client_streaming, method.server_streaming]
    return make(several if method.server_streaming else one, request.FromString, reply.SerializeToString)


def call(
    channel: grpc.Channel, method: str, requests: Iterable[bytes] = (b"",), *, token: str | None = None,
    metadata: tuple[tuple[str, str | bytes], ...] = (), timeout: float = PATIENCE,
) -> list[bytes]:  # fmt: skip
    """Make a call of any kind with raw messages; returns the raw answers. Raises grpc.RpcError."""
    descriptor = METHODS.get(method)
    up = descriptor is None or descriptor.client_streaming
    down = descriptor is None or descriptor.server_streaming
    makers = {
        (False, False): channel.unary_unary, (False, True): channel.unary_stream,
        (True, False): channel.stream_unary, (True, True): channel.stream_stream,
    }  # fmt: skip
    multi: Any = makers[up, down](method)
    if token is not None:
        metadata = (*metadata, ("authorization", f"Bearer {token}"))
    asked = iter(list(requests)) if up else next(iter(requests))
    answer = multi(asked, timeout=timeout, metadata=metadata)
    return list(answer) if down else [answer]


def code_of(channel: grpc.Channel, method: str, **given: Any) -> grpc.StatusCode:
    """The status with which a call ends."""
    try:
        call(channel, method, **given)
    except grpc.RpcError as error:
        assert isinstance(error, grpc.Call)
        return error.code()
    return grpc.StatusCode.OK
