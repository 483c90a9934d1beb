"""Calls to one address: a greeting, heartbeats, and the heads that are newer there."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import grpc
import grpc.aio

from mergenode.adapters.peers.access.connection_faults import is_certificate_fault
from mergenode.adapters.peers.membership.keyed_heads import keyed_from
from mergenode.adapters.peers.membership.membership import Membership
from mergenode.errors import MergenodeError, TransientError
from mergenode.ports.administration import Neighbour
from mergenode.tracing.context import call_metadata, fresh, within
from mergenode.wire.heads import Head
from mergenode.wire.packing import malformed
from mergenode.wire.sightings import Contact
from mergenode.wire.v1 import objects_pb2, peer_pb2
from mergenode.wire.v1.peer_pb2_grpc import PeerStub
from mergenode.wire.views import (
    NEWEST_BYTES,
    PROTOCOL,
    Position,
    milliseconds,
    read_greeting,
    read_view,
    sized,
    write_positions,
)

ChannelOf = Callable[[str, str], grpc.aio.Channel]
"""Makes a new channel to host:port, with the certificates of this moment; who asked closes it. The second argument: the
name that the other's certificate has to be for, empty for the host."""

Explain = Callable[[grpc.RpcError, str, str], str | None]
"""What is wrong with the certificates of a call to such an address, in one sentence, or None: nothing known."""

SESSION_SECONDS = 600.0
"""A channel is replaced after about this long, so that certificates and addresses are taken anew."""
PULL_SECONDS = 15.0
MOST_PAGES = 1024
WATCHED_BURST = 512
WATCHED_PER_SECOND = 20.0


def unexplained(error: grpc.RpcError, address: str, name: str) -> None:
    """For nodes without certificates."""


class LinkError(Exception):
    """The other end cannot be exchanged with as it is now."""


class ParkedError(LinkError):
    """There is nothing to call here for long. ``rival``: the address that this node is called at already."""

    def __init__(self, why: str, *, rival: str = "", banned: bool = False) -> None:
        super().__init__(why)
        self.rival, self.banned = rival, banned


@dataclass(frozen=True, slots=True)
class LinkParts:
    """What all links of a node share. ``disk`` runs what waits for it; ``draw`` gives numbers in [0, 1)."""

    membership: Membership
    channel_of: ChannelOf
    disk: Executor
    explain: Explain = unexplained
    draw: Callable[[], float] = random.random


class Link:
    """One address. ``run`` never ends by itself; ``wake`` has it try now."""

    def __init__(self, neighbour: Neighbour, parts: LinkParts, *, name: str = "", back: bool = False) -> None:
        """``name``: under which the address was found, what its certificate has to be for. ``back``: it is called
        because it calls us. It is told so, or two nodes would call each other for ever."""
        self._name, self._back = name, back
        self.address, self._expected = neighbour.address, neighbour.node_id
        self._parts, self._own = parts, parts.membership
        self.node_id: UUID | None = None
        self.parked: ParkedError | None = None
        self.waits_since: float | None = None
        """When it began to wait for its next attempt; None while it speaks. As ``Membership.clock``."""
        self._failures = 0
        self._told = ""
        self._wake = asyncio.Event()

    def is_of(self, node_id: UUID, address: str) -> bool:
        """Whether this is the link to a node, as far as is known."""
        return node_id == self.node_id or address == self.address

    def wake(self) -> None:
        """Try now, if this link waits after a failure."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        rhythm, loop = self._own.rhythm, asyncio.get_running_loop()
        while True:
            started, pause, self.parked = loop.time(), 0.0, None
            try:
                with within(fresh()):  # what both ends say of this conversation has one id
                    await self._session()
            except ParkedError as error:
                self.parked, self._failures = error, 0
                self._own.attempted(self.address, str(error))
                pause = rhythm.pause(1 << 30, self._parts.draw())
            except (grpc.RpcError, LinkError, MergenodeError, OSError, ValueError) as error:
                self._failures += 1
                if self.node_id is not None:
                    self._own.missed(self.node_id)
                self._own.attempted(self.address, self._words(error))
                pause = rhythm.pause(self._failures, self._parts.draw()) - (loop.time() - started)
            await self._wait(pause)

    def _words(self, error: Exception) -> str:
        """Why an attempt failed. What is wrong with a certificate is logged once, where this node chose the address."""
        if not isinstance(error, grpc.RpcError):
            return str(error)[:300] or type(error).__name__
        words = self._parts.explain(error, self.address, self._name) or _status(error)
        if is_certificate_fault(error) and words != self._told and not self._back:
            self._own.say("warning", words)
            self._told = words
        return words

    async def _wait(self, seconds: float) -> None:
        self._wake.clear()
        self.waits_since = self._own.clock()[0]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0.0)):
                await self._wake.wait()
        self.waits_since = None

    async def _session(self) -> None:
        """As long as the other end answers, and not longer than certificates should be used."""
        channel = self._parts.channel_of(self.address, self._name)
        try:
            stub = PeerStub(channel)  # type: ignore[no-untyped-call]  # protoc writes no types for stubs
            await self._hello(stub)
            watch = asyncio.create_task(self._watch(stub))
            try:
                await self._beat(stub)
            finally:
                watch.cancel()
                (ended,) = await asyncio.gather(watch, return_exceptions=True)
                if isinstance(ended, Exception):
                    self._own.say("error", f"{self.address}: watching ended with a defect: {ended!r}")
        finally:
            await channel.close()

    async def _hello(self, stub: PeerStub) -> None:
        own = self._own.greeting()
        request = peer_pb2.HelloRequest(
            protocol_min=PROTOCOL,
            protocol_max=PROTOCOL,
            node_id=own.node_id.bytes,
            incarnation=own.incarnation,
            capabilities=sorted(own.capabilities),
            clock_unix_ms=milliseconds(own.clock),
            address="" if self._back else own.address,
        )
        sent, wall = self._own.clock()
        reply = await stub.Hello(request, timeout=self._own.rhythm.deadline, metadata=call_metadata())
        greeting = read_greeting(reply)
        trip = self._own.clock()[0] - sent
        if PROTOCOL not in greeting.protocols:
            raise LinkError(f"it speaks version {reply.protocol} of the protocol, this node {PROTOCOL}")
        contact = Contact(
            node_id=greeting.node_id,
            incarnation=greeting.incarnation,
            dialled=self.address,
            capabilities=greeting.capabilities,
            round_trip=trip,
            skew=self._own.skew(greeting.clock, wall, trip),
        )
        self._meet(contact)

    def _meet(self, contact: Contact) -> None:
        node_id = contact.node_id
        if node_id == self._own.node_id:
            raise ParkedError("this node itself")
        if self._expected is not None and node_id != self._expected:
            raise LinkError(f"{node_id} answers where {self._expected} should")
        if node_id in self._own.bans.banned():
            self.node_id = node_id
            raise ParkedError("it is banned", banned=True)
        heard = self._own.met(contact)
        if not heard.standing.accepted:
            raise LinkError(f"{node_id} is refused: {heard.standing}")
        self.node_id = node_id
        if heard.rival:
            raise ParkedError(f"the same node is called at {heard.rival}", rival=heard.rival)

    async def _beat(self, stub: PeerStub) -> None:
        rhythm, loop = self._own.rhythm, asyncio.get_running_loop()
        ends = loop.time() + SESSION_SECONDS * (1 - 0.2 * self._parts.draw())
        while loop.time() < ends:
            started = loop.time()
            await self._exchange(stub)
            self._failures, self._told = 0, ""
            self._own.attempted(self.address, "")
            pause = rhythm.pause(0, self._parts.draw())
            await asyncio.sleep(max(0.0, pause - (loop.time() - started)))

    async def _exchange(self, stub: PeerStub) -> None:
        own = self._own
        sent, wall = own.clock()
        view = read_view(await stub.Exchange(own.view(), timeout=own.rhythm.deadline, metadata=call_metadata()))
        trip = own.clock()[0] - sent
        if view.node_id != self.node_id:
            raise LinkError(f"{view.node_id} answers in the place of {self.node_id}")
        contact = Contact(
            node_id=view.node_id,
            incarnation=view.incarnation,
            dialled=self.address,
            round_trip=trip,
            skew=own.skew(view.clock, wall, trip),
        )
        self._meet(contact)
        own.received(view)
        wanted = own.wanted(view.newest)
        if wanted:
            try:
                async with asyncio.timeout(PULL_SECONDS):
                    await self._pull(stub, wanted)
            except TimeoutError:
                pass  # it goes on with the next heartbeat
            except TransientError as error:  # our disk, not the neighbour
                own.say("warning", error.message)

    async def _pull(self, stub: PeerStub, wanted: list[UUID]) -> None:
        """Ask for the heads of these nodes, ascending; pages between them are skipped."""
        after = _before(wanted[0])
        for _ in range(MOST_PAGES):
            request = peer_pb2.GetHeadsRequest(lineage=self._own.lineage, after_node=after)
            reply = await stub.GetHeads(request, timeout=self._own.rhythm.deadline, metadata=call_metadata())
            sized(reply, "GetHeadsReply")
            last = after
            for message in reply.heads:
                head = await self._admit(message)
                if head is None or head.node_id.bytes <= last:
                    raise malformed("GetHeadsReply.heads", "they are no heads, or their nodes do not ascend")
                last = head.node_id.bytes
            wanted = [node_id for node_id in wanted if node_id.bytes > last]
            if not wanted or not reply.more or last == after:
                return
            after = max(last, _before(wanted[0]))

    async def _watch(self, stub: PeerStub) -> None:
        """Hear of heads before the next heartbeat. Only a hint: whatever goes wrong here is tried again later."""
        failures = 0
        while True:
            try:
                await self._follow(stub)
                failures = 0
            except (grpc.RpcError, MergenodeError):
                failures += 1
            except LinkError as error:
                failures += 1
                self._own.say("warning", f"{self.address}: {error}")
            await asyncio.sleep(self._own.rhythm.pause(min(failures, 10), self._parts.draw()))

    async def _follow(self, stub: PeerStub) -> None:
        loop = asyncio.get_running_loop()
        known = write_positions(_fitting(self._own.positions()))
        call = stub.WatchHeads(
            peer_pb2.WatchHeadsRequest(lineage=self._own.lineage, known=known), metadata=call_metadata()
        )
        left, at = float(WATCHED_BURST), loop.time()
        try:
            async for message in call:
                now = loop.time()
                left, at = min(WATCHED_BURST, left + (now - at) * WATCHED_PER_SECOND) - 1, now
                if left < 0:
                    raise LinkError("it sends heads without end")
                await self._admit(message)
        finally:
            call.cancel()

    async def _admit(self, message: objects_pb2.SignedHead) -> Head | None:
        assert self.node_id is not None
        keyed, loop = keyed_from(message, "SignedHead"), asyncio.get_running_loop()
        admit = partial(copy_context().run, self._own.admit, keyed, self.node_id)
        verdict = await loop.run_in_executor(self._parts.disk, admit)
        if self.node_id in self._own.bans.banned():
            raise ParkedError("it is banned", banned=True)
        return verdict.head


def _before(node_id: UUID) -> bytes:
    """The id that is just below, so that a page behind it begins with the node."""
    return (node_id.int - 1).to_bytes(16, "big") if node_id.int else b""


def _fitting(positions: tuple[Position, ...]) -> tuple[Position, ...]:
    """As many as a message holds; what is left out is sent once more, which is harmless."""
    return positions[: NEWEST_BYTES // 200]


def _status(error: grpc.RpcError) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name.lower()}: {(error.details() or '')[:300]}"
    return str(error)[:300] or type(error).__name__
