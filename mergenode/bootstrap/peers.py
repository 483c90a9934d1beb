"""A node among others, composed: who it is, and the port that other nodes, teams and operators call."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from time import time
from typing import Any
from uuid import UUID

import grpc
from prometheus_client import CollectorRegistry

from mergenode.adapters.observers.gate_metrics import GateMetrics
from mergenode.adapters.observers.peer_metrics import PeerMetrics
from mergenode.adapters.observers.transfers import TransferMetrics
from mergenode.adapters.peers.access.callers import caller_of
from mergenode.adapters.peers.access.connection_faults import connection_fault
from mergenode.adapters.peers.access.credentials import Tls
from mergenode.adapters.peers.access.identity import NodeIdentity, load_identity
from mergenode.adapters.peers.membership.document import peers_document
from mergenode.adapters.peers.membership.heartbeats import Heartbeats
from mergenode.adapters.peers.membership.membership import Membership, Place
from mergenode.adapters.peers.membership.operating import PeersOperator
from mergenode.adapters.peers.membership.peer_service import PeerService
from mergenode.adapters.peers.membership.snapshot import take_snapshot
from mergenode.adapters.peers.port.addresses import joined
from mergenode.adapters.peers.port.admin_service import AdminService
from mergenode.adapters.peers.port.channels import open_aio_channel
from mergenode.adapters.peers.port.server import PeerServer, Register
from mergenode.adapters.peers.weights.blob_service import BlobService, caller_of_context
from mergenode.adapters.peers.weights.exchange import GrpcExchange
from mergenode.adapters.peers.weights.shelf import Shelf
from mergenode.adapters.peers.weights.transfer_observer import TransferProgress
from mergenode.bootstrap.peer_port import is_wildcard, peer_port, tls_of
from mergenode.ports.activity import ActivityKind
from mergenode.ports.clock import Clock
from mergenode.ports.observer import Observer, Progress
from mergenode.settings import Settings
from mergenode.tracing.spans import SILENT, Tracer
from mergenode.wire.blocks import Root
from mergenode.wire.encoding import Encoding

PEERS = "peers"
"""Below the state directory: heads of others, bans."""

_STOP_SECONDS = 30.0
_HANG_UP_SECONDS = 10.0


class PeerTransfers(TransferMetrics):
    """Metrics of transfers; verified bytes are a sign of life, too, and the observer of the node hears of each."""

    def __init__(self, registry: CollectorRegistry, membership: Membership, observer: Observer) -> None:
        super().__init__(registry)
        self._membership = membership
        self._observer = observer

    def progress(self, progress: TransferProgress) -> None:
        super().progress(progress)
        done, total, here = progress.done, progress.total, progress.here
        self._tell(_model(progress.root), done, total, peer=progress.peer, free_bytes=here)

    def left(self, root: Root) -> None:
        self._tell(_model(root), 0, 0, over=True)

    def sending(self, root: Root, peer: str, done: int, total: int, *, over: bool = False) -> None:
        self._tell(f"{_model(root)} to {peer}", done, total, peer=peer, over=over)

    def _tell(self, subject: str, done: int, total: int, **more: Any) -> None:
        self._observer.progress(Progress(ActivityKind.TRANSFER, subject, 0, 0, done, total, **more))

    def moved(self, direction: str, peer: str, encoding: Encoding, wire_bytes: int, block_bytes: int) -> None:
        super().moved(direction, peer, encoding, wire_bytes, block_bytes)
        if direction == "in":
            self._membership.moved(UUID(peer))


def _model(root: Root) -> str:
    return f"model {root.hex()[:12]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """What a node knows of others before its port is open."""

    settings: Settings
    identity: NodeIdentity
    membership: Membership
    tls: Tls | None
    gate: GateMetrics
    transfers: PeerTransfers
    observer: Observer
    clock: Clock
    tracer: Tracer = SILENT

    def document(self) -> dict[str, object]:
        """What ``/api/v1/peers`` answers."""
        return peers_document(take_snapshot(self.membership))

    def credentials(self) -> grpc.ChannelCredentials | None:
        """For a channel that is opened now; None without TLS."""
        return None if self.tls is None else self.tls.channel_credentials()[0]

    def explain(self, error: grpc.RpcError, address: str, name: str) -> str | None:
        """What is wrong with the certificates of a call that failed, as far as is known; None without TLS."""
        if self.tls is None:
            return None
        return connection_fault(error, address, (self.tls.files, self.tls.current()[0]), time(), name)


def join_peers(
    settings: Settings, observer: Observer, metrics: CollectorRegistry, clock: Clock, tracer: Tracer = SILENT
) -> Peers | None:
    """Count this start of the node, and remember what it knew of others; None where ``peers.listen`` is not set.

    To be called once a start, with the state locked.

    Raises:
        FatalError: the identity is damaged or used twice, or the certificates make no sense.
    """
    if settings.peers.address is None:
        return None
    tls = tls_of(settings.peers, lambda text: observer.message("warning", text))
    identity = load_identity(settings.node.state)
    place = Place(
        lineage=settings.peers.lineage, address=settings.peers.advertise or "", neighbours=settings.peers.neighbours
    )
    membership = Membership(identity, settings.node.state / PEERS, clock, place, observer.message)
    PeerMetrics(metrics, lambda: take_snapshot(membership))
    gate = GateMetrics(metrics)
    if tls is not None:
        gate.certificate(lambda: tls.current()[0].seconds_left(time()) or 0.0)
    return Peers(
        settings=settings,
        identity=identity,
        membership=membership,
        tls=tls,
        gate=gate,
        transfers=PeerTransfers(metrics, membership, observer),
        observer=observer,
        clock=clock,
        tracer=tracer,
    )


@contextmanager
def open_port(
    peers: Peers, exchange: tuple[GrpcExchange, Shelf] | None = None, register: Sequence[Register] = ()
) -> Iterator[str]:
    """The gRPC port, open, and the calls to others; its address. Ends transfers in its end.

    ``exchange``: begins to pull weights, and its shelf is served. ``register``: services beside those of nodes and
    operators.

    Raises:
        FatalError: the port is taken, or the keys of tokens cannot be used.
    """
    membership, observer = peers.membership, peers.observer
    services = [PeerService(membership, caller_of=_name_of).register, *register]
    if exchange is not None:
        receiver_of = caller_of_context if peers.tls is None else _name_of  # without names, by connection
        blobs = BlobService(exchange[1], peers.transfers, caller_of=receiver_of, holders=exchange[0].holders)
        services.append(blobs.register)

    def answered(method: str, code: str, seconds: float) -> None:
        peers.gate.answered(method, code, seconds)
        membership.tally.rpc(method, code)

    operator = PeersOperator(membership, lambda grace: server.drain())
    services.append(AdminService(operator, lambda text: observer.message("info", text)).register)
    server = peer_port(
        peers.settings.peers, peers.tls, services, lambda text: observer.message("warning", text), peers.gate.refused,
        answered,
    )  # fmt: skip
    with ExitStack() as stack:
        if exchange is not None:
            stack.callback(blobs.close)
        address = _start(peers, server, stack)
        if exchange is not None:
            exchange[0].start()
            stack.callback(exchange[0].stop)
        observer.message("info", f"peers on {address} as node {peers.identity.node_id}")
        yield address


def _start(peers: Peers, server: PeerServer, stack: ExitStack) -> str:
    """Listen, and call others; what others call."""
    settings = peers.settings
    host, port = server.start()[0]
    stack.callback(server.stop, min(_STOP_SECONDS, settings.shutdown.drain_seconds))
    address = settings.peers.advertise or joined(socket.gethostname() if is_wildcard(host) else host, port)
    peers.membership.advertise(address)
    calls = Heartbeats(
        peers.membership,
        lambda called, name: open_aio_channel(called, peers.credentials(), name),
        explain=peers.explain,
    )
    server.call_soon(calls.run())
    stack.callback(lambda: server.call_soon(calls.stop()).result(_HANG_UP_SECONDS))
    return address


def _name_of(context: Any) -> str:
    """Who calls, for limits per caller."""
    return caller_of(context).name
