"""Nodes of one process that speak gRPC over loopback, at a pace for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import time
from typing import Any
from uuid import UUID

import grpc
import grpc.aio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mergenode.adapters.clock import SystemClock
from mergenode.adapters.peers.access.connection_faults import connection_fault
from mergenode.adapters.peers.access.credentials import Tls
from mergenode.adapters.peers.membership.heartbeats import Heartbeats
from mergenode.adapters.peers.membership.keyed_heads import KeyedHead
from mergenode.adapters.peers.membership.link import ChannelOf, Explain, unexplained
from mergenode.adapters.peers.membership.membership import Membership, Place
from mergenode.adapters.peers.membership.peer_service import PeerService, PeerServiceLimits
from mergenode.adapters.peers.membership.resolving import Resolve, resolve
from mergenode.adapters.peers.port.channels import open_aio_channel
from mergenode.wire.admission import sign_head
from mergenode.wire.blocks import Root
from mergenode.wire.heads import Head
from mergenode.wire.identity import node_id_of
from mergenode.wire.rhythm import Rhythm

BASE, SCHEMA, LINEAGE = Root(b"b" * 32), b"s" * 32, "words"
QUICK = Rhythm(exchange=0.05, deadline=20.0, down=1.0, back_off=0.2)
PATIENCE = 60.0
"""Seconds until a test that waits for an event gives up."""
OPEN = PeerServiceLimits(calls=1e9)


@dataclass(frozen=True)
class TestIdentity:
    __test__ = False
    key: Ed25519PrivateKey
    incarnation: int = 1

    @property
    def node_id(self) -> UUID:
        return node_id_of(self.key.public_key())


def identity(number: int, incarnation: int = 1) -> TestIdentity:
    return TestIdentity(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32), incarnation)


def draft(epoch: int = 1, root: bytes = b"r" * 32) -> Head:
    return Head(LINEAGE, UUID(int=0), 0, epoch, 0, Root(root), SCHEMA, BASE)


def keyed(who: TestIdentity, incarnation: int = 1, seq: int = 1, **more: Any) -> KeyedHead:
    """A head as this node would sign it."""
    head = replace(draft(), node_id=who.node_id, incarnation=incarnation, seq=seq, **more)
    return KeyedHead(sign_head(head, who.key), who.key.public_key().public_bytes_raw())


def channel(address: str, name: str = "") -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])


@dataclass
class PeerNode:
    """A membership with its server and its calls. ``said``: what it wrote to the log."""

    membership: Membership
    address: str
    said: list[tuple[str, str]]
    server: grpc.aio.Server
    service: PeerService
    changed: asyncio.Event
    task: asyncio.Task[None] | None = None

    @property
    def node_id(self) -> UUID:
        return self.membership.node_id

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for a poke after which the condition holds."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition():
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            raise AssertionError(f"still not so: {self.membership.picture()}, {self.said}") from None

    async def stop(self) -> None:
        """As if killed: nothing is told to others."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        await self.server.stop(None)


async def start_node(
    folder: Path,
    who: TestIdentity,
    neighbours: Sequence[str] = (),
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: Tls | None = None,
    rhythm: Rhythm = QUICK,
    resolve: Resolve = resolve,
    calls: bool = True,
    channel_of: ChannelOf = channel,
    limits: PeerServiceLimits = OPEN,
) -> PeerNode:
    """A node that expects heads of ``BASE``; ``calls`` False: it only answers.

    ``tls``: it wants certificates, and opens channels as ``bootstrap.peers`` does.
    """
    loop, said, changed = asyncio.get_running_loop(), list[tuple[str, str]](), asyncio.Event()

    def report(level: str, text: str) -> None:
        said.append((level, text))
        loop.call_soon_threadsafe(changed.set)

    place = Place(lineage=LINEAGE, neighbours=neighbours, rhythm=rhythm, capabilities=frozenset({"heads"}))
    membership = Membership(who, folder, SystemClock(), place, report)
    membership.heads.expect(SCHEMA, BASE)
    count = membership.tally.refusal

    def refused(code: str, node_id: UUID | None = None) -> None:
        count(code, node_id)
        loop.call_soon_threadsafe(changed.set)  # a refusal pokes nobody, or liars could keep mixers awake

    membership.tally.refusal = refused  # type: ignore[method-assign]  # a tap
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    service = PeerService(membership, limits)
    service.register(server)
    place = f"{host}:{port}"
    bound = server.add_secure_port(place, tls.server_credentials()) if tls else server.add_insecure_port(place)
    await server.start()
    address = f"{host}:{bound}"
    membership.advertise(address)
    node = PeerNode(membership, address, said, server, service, changed)
    membership.listen(lambda: loop.call_soon_threadsafe(changed.set))
    explain: Explain = unexplained
    if tls is not None:
        channel_of, explain = _encrypted(tls)
    if calls:
        beats = Heartbeats(
            membership, channel_of, explain=explain, resolve=resolve, tick_seconds=0.05, resolve_seconds=0.05
        )
        node.task = asyncio.create_task(beats.run())
    return node


def _encrypted(tls: Tls) -> tuple[ChannelOf, Explain]:
    def channel_of(address: str, name: str) -> grpc.aio.Channel:
        return open_aio_channel(address, tls.channel_credentials()[0], name)

    def explain(error: grpc.RpcError, address: str, name: str) -> str | None:
        return connection_fault(error, address, (tls.files, tls.current()[0]), time(), name)

    return channel_of, explain


@asynccontextmanager
async def stopping(nodes: list[PeerNode]) -> AsyncIterator[None]:
    """Stops what the list holds in the end."""
    try:
        yield
    finally:
        for node in nodes:
            await node.stop()
