"""The service ``Peer``: who is there, what each sees, and the newest heads. Nothing here waits for the disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar
from uuid import UUID

import grpc
import grpc.aio

from mergenode.adapters.peers.membership.head_store import Held
from mergenode.adapters.peers.membership.membership import Membership
from mergenode.adapters.peers.port.refusals import Code, refusal_metadata
from mergenode.errors import RejectedError
from mergenode.wire.sightings import Contact, Standing
from mergenode.wire.v1 import objects_pb2, peer_pb2
from mergenode.wire.v1.peer_pb2_grpc import add_PeerServicer_to_server
from mergenode.wire.views import (
    MESSAGE_BYTES,
    PROTOCOL,
    lineage_from,
    milliseconds,
    node_id_from,
    read_greeting,
    read_positions,
    read_view,
    sized,
)

_MOST_CALLERS = 1024
_PAGE_BYTES = MESSAGE_BYTES - 1024
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PeerServiceLimits:
    """What callers may take. ``calls``: in a burst, per caller; ``calls_per_second``: beyond that."""

    watchers: int = 128
    watchers_per_caller: int = 4
    watch_seconds: float = 600.0
    stalled_seconds: float = 30.0
    """How long a watcher may take nothing before its place is free."""
    calls: float = 200.0
    calls_per_second: float = 20.0


@dataclass(frozen=True, slots=True)
class _No:
    """How a call is refused: status, what is counted (empty: it was), and what the caller is told."""

    status: grpc.StatusCode
    code: str
    refusal: objects_pb2.Refusal


class _NotNowError(Exception):
    def __init__(self, no: _No) -> None:
        super().__init__(no.refusal.message)
        self.no = no


def caller_of_context(context: Any) -> str:
    """Who calls, where nobody says it better: the name in the certificate, else the address without its port."""
    identities = context.peer_identities()
    if identities:
        return str(identities[0].decode("utf-8", "replace"))[:128]
    return str(context.peer()).rpartition(":")[0]


class PeerService:
    """Answers other nodes. ``register`` it with a server; who may call at all is decided before it is asked."""

    def __init__(
        self,
        membership: Membership,
        limits: PeerServiceLimits | None = None,
        caller_of: Callable[[Any], str] = caller_of_context,
    ) -> None:
        """``caller_of``: a name for a call's context, from the certificate."""
        self._membership, self._limits, self._caller_of = membership, limits or PeerServiceLimits(), caller_of
        self._budgets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._watching: Counter[str] = Counter()
        self._wakes: set[asyncio.Event] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def register(self, server: grpc.aio.Server) -> None:
        """Answer the calls of ``Peer`` on this server."""
        add_PeerServicer_to_server(self, server)  # type: ignore[no-untyped-call]  # protoc writes no types for stubs
        self._membership.listen(self._poked)

    async def Hello(self, request: peer_pb2.HelloRequest, context: Any) -> peer_pb2.HelloReply:
        """Who is there, and what both can do."""
        return await self._answer(context, lambda caller: self._hello(request))

    async def Exchange(self, request: peer_pb2.View, context: Any) -> peer_pb2.View:
        """A heartbeat: what the caller sees against what is seen here."""
        return await self._answer(context, lambda caller: self._exchange(request))

    async def GetHeads(self, request: peer_pb2.GetHeadsRequest, context: Any) -> peer_pb2.GetHeadsReply:
        """A page of signed heads, at most 64 KiB."""
        return await self._answer(context, lambda caller: self._get_heads(request))

    async def WatchHeads(self, request: peer_pb2.WatchHeadsRequest, context: Any) -> None:
        """Heads as they come, until the caller does not take them any more or the stream is old."""
        await self._answer(context, lambda caller: self._watch(request, context, caller))

    async def _answer(self, context: Any, work: Callable[[str], Awaitable[T]]) -> T:
        try:
            caller = self._caller_of(context)
            self._spend(caller)
            return await work(caller)
        except RejectedError as error:
            no = _no(grpc.StatusCode.INVALID_ARGUMENT, "malformed_message", error.message)
        except _NotNowError as error:
            no = error.no
        return await self._refuse(context, no)

    async def _refuse(self, context: Any, no: _No) -> NoReturn:
        if no.code:
            self._membership.tally.refusal(no.code)
        await context.abort(no.status, no.refusal.message, (refusal_metadata(no.status, no.refusal),))
        raise AssertionError("abort raises")

    def _spend(self, caller: str) -> None:
        limits, now = self._limits, self._membership.clock()[0]
        left, at = self._budgets.pop(caller, (limits.calls, now))
        left = min(limits.calls, left + (now - at) * limits.calls_per_second)
        self._budgets[caller] = (max(0.0, left - 1), now)
        while len(self._budgets) > _MOST_CALLERS:
            self._budgets.popitem(last=False)
        if left < 1:
            wait = (1 - left) / limits.calls_per_second
            raise _busy(f"{caller} calls too often", wait)

    async def _hello(self, request: peer_pb2.HelloRequest) -> peer_pb2.HelloReply:
        greeting = read_greeting(request)
        if PROTOCOL not in greeting.protocols:
            said = f"{request.protocol_min} to {request.protocol_max}"
            message = f"the caller speaks version {said} of the protocol, this node {PROTOCOL}"
            raise _NotNowError(_no(grpc.StatusCode.FAILED_PRECONDITION, "protocol", message))
        contact = Contact(
            node_id=greeting.node_id,
            incarnation=greeting.incarnation,
            advertised=greeting.address,
            capabilities=greeting.capabilities,
            skew=self._membership.skew(greeting.clock, self._membership.clock()[1], 0.0),
        )
        self._meet(contact)
        own = self._membership.greeting()
        return peer_pb2.HelloReply(
            protocol=PROTOCOL,
            node_id=own.node_id.bytes,
            incarnation=own.incarnation,
            capabilities=sorted(own.capabilities),
            clock_unix_ms=milliseconds(own.clock),
        )

    async def _exchange(self, request: peer_pb2.View) -> peer_pb2.View:
        view = read_view(request)
        if self._meet(Contact(node_id=view.node_id, incarnation=view.incarnation)) is not Standing.UNCONFIRMED:
            self._membership.received(view)
        return self._membership.view()

    def _meet(self, contact: Contact) -> Standing:
        own = self._membership
        if contact.node_id == own.node_id:
            if contact.incarnation == own.incarnation:
                return Standing.UNCONFIRMED  # this node called itself, and sees it from the answer
            message = f"{contact.node_id} is this node: start {contact.incarnation} of it calls start {own.incarnation}"
            raise _NotNowError(_no(grpc.StatusCode.FAILED_PRECONDITION, "outdated", message, Code.CODE_STALE))
        if contact.node_id in own.bans.banned():
            message = f"{contact.node_id} is banned here"
            raise _NotNowError(_no(grpc.StatusCode.PERMISSION_DENIED, "banned", message, Code.CODE_BANNED))
        standing = own.met(contact).standing
        if standing is Standing.OUTDATED:
            message = f"a later start of {contact.node_id} than {contact.incarnation} is known"
            raise _NotNowError(_no(grpc.StatusCode.FAILED_PRECONDITION, "", message, Code.CODE_STALE))
        if standing is Standing.FULL:
            raise _busy("as many neighbours as this node takes are there", own.rhythm.down)
        return standing

    async def _get_heads(self, request: peer_pb2.GetHeadsRequest) -> peer_pb2.GetHeadsReply:
        sized(request, "GetHeadsRequest")
        self._of_lineage(request.lineage)
        if request.after_node:
            node_id_from(request.after_node, "GetHeadsRequest.after_node")
        heads, more = self._membership.heads.page(request.after_node, request.min_epoch, _PAGE_BYTES)
        return peer_pb2.GetHeadsReply(heads=[held.keyed.message() for held in heads], more=more)

    def _of_lineage(self, lineage: str) -> None:
        lineage_from(lineage, "lineage")
        if lineage != self._membership.lineage:
            message = f"lineage {lineage!r} is not exchanged here, {self._membership.lineage!r} is"
            raise _NotNowError(_no(grpc.StatusCode.NOT_FOUND, "lineage_unknown", message, Code.CODE_NOT_ALLOWED))

    async def _watch(self, request: peer_pb2.WatchHeadsRequest, context: Any, caller: str) -> None:
        sized(request, "WatchHeadsRequest")
        self._of_lineage(request.lineage)
        known = read_positions(request.known, "WatchHeadsRequest.known")
        sent = {each.node_id: (each.incarnation, each.seq) for each in known}
        limits = self._limits
        if self._watching.total() >= limits.watchers or self._watching[caller] >= limits.watchers_per_caller:
            raise _busy("there are as many watchers as this node takes", self._membership.rhythm.down)
        self._loop, wake = asyncio.get_running_loop(), asyncio.Event()
        self._watching[caller] += 1
        self._wakes.add(wake)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limits.watch_seconds):
                    while True:
                        wake.clear()
                        for held in self._newer_than(sent):
                            await asyncio.wait_for(context.write(held.keyed.message()), limits.stalled_seconds)
                            sent[held.head.node_id] = held.head.position
                        await wake.wait()
        finally:
            self._wakes.discard(wake)
            self._watching[caller] -= 1
            self._watching += Counter()  # those that are at zero go

    def _newer_than(self, sent: dict[UUID, tuple[int, int]]) -> list[Held]:
        held = self._membership.heads.held.values()
        return [each for each in held if each.head.position > sent.get(each.head.node_id, (-1, -1))]

    def _poked(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and all watchers with it
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for wake in self._wakes:
            wake.set()


def _no(
    status: grpc.StatusCode, code: str, message: str, refusal: Any = Code.CODE_UNSPECIFIED, retry_after: float = 0.0
) -> _No:
    return _No(
        status,
        code,
        objects_pb2.Refusal(code=refusal, message=message[:500], retry_after_ms=milliseconds(retry_after)),
    )


def _busy(message: str, retry_after: float) -> _NotNowError:
    return _NotNowError(_no(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", message, Code.CODE_BUSY, retry_after))
