"""The service of operators: messages in and out of ``ports.administration``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

import grpc

from mergenode.adapters.peers.access.callers import caller_of
from mergenode.adapters.peers.port.addresses import checked_address
from mergenode.adapters.peers.port.refusals import abort, refusal
from mergenode.errors import TransientError
from mergenode.ports.administration import Administration, Neighbour, NodeState, PeerState, TopologyChangedError
from mergenode.wire.v1 import admin_pb2, admin_pb2_grpc, objects_pb2, peer_pb2

MOST_GRACE_SECONDS = 600.0
MOST_BAN_SECONDS = 10 * 366 * 86400.0
MOST_NEIGHBOURS = 128
MOST_REASON = 256

_STATES = {
    PeerState.ALIVE: peer_pb2.PEER_STATE_ALIVE,
    PeerState.SUSPECT: peer_pb2.PEER_STATE_SUSPECT,
    PeerState.DOWN: peer_pb2.PEER_STATE_DOWN,
    PeerState.DRAINING: peer_pb2.PEER_STATE_DRAINING,
}

Context = grpc.aio.ServicerContext[Any, Any]
Result = TypeVar("Result")


class AdminService(admin_pb2_grpc.AdminServicer):
    """``told``: one line for the log about everything that somebody changed, with who it was."""

    def __init__(self, administration: Administration, told: Callable[[str], None]) -> None:
        self._administration, self._told = administration, told

    def register(self, server: grpc.aio.Server) -> None:
        """Add the service to a server: one of ``PeerServer(register=...)``."""
        admin_pb2_grpc.add_AdminServicer_to_server(self, server)  # type: ignore[no-untyped-call]  # protoc writes no types for stubs

    async def Drain(self, request: admin_pb2.DrainRequest, context: Context) -> admin_pb2.DrainReply:
        grace = min(request.grace_ms / 1000, MOST_GRACE_SECONDS)
        transfers = await self._asked(context, lambda: self._administration.drain(grace))
        self._told(f"{caller_of(context).name} asked for no new transfers; {transfers} under way")
        return admin_pb2.DrainReply(transfers=transfers)

    async def SetTopology(self, request: admin_pb2.SetTopologyRequest, context: Context) -> admin_pb2.SetTopologyReply:
        def change() -> int:
            neighbours = _neighbours(request)
            return self._administration.set_topology(neighbours, request.expected_generation)

        generation = await self._asked(context, change)
        self._told(f"{caller_of(context).name} set {len(request.neighbours)} neighbours, generation {generation}")
        return admin_pb2.SetTopologyReply(generation=generation)

    async def Ban(self, request: admin_pb2.BanRequest, context: Context) -> admin_pb2.BanReply:
        def change() -> UUID:
            node_id = _node_id(request.node_id)
            if request.lift:
                self._administration.lift_ban(node_id)
            else:
                seconds = min(request.duration_ms / 1000, MOST_BAN_SECONDS) if request.duration_ms else None
                self._administration.ban(node_id, seconds, _reason(request.reason))
            return node_id

        node_id = await self._asked(context, change)
        self._told(f"{caller_of(context).name} {'lifted the ban of' if request.lift else 'banned'} node {node_id}")
        return admin_pb2.BanReply(banned=not request.lift)

    async def GetState(self, request: admin_pb2.GetStateRequest, context: Context) -> admin_pb2.GetStateReply:
        return _reply(await self._asked(context, self._administration.state))

    async def _asked(self, context: Context, question: Callable[[], Result]) -> Result:
        """The answer, found on a thread that may wait for a disk; the call is over where there is none."""
        try:
            return await asyncio.to_thread(question)
        except TopologyChangedError as error:
            refused = refusal(objects_pb2.Refusal.CODE_STALE, str(error), "Look at GetState and decide again.")
            status = grpc.StatusCode.ABORTED
        except ValueError as error:
            refused = refusal(objects_pb2.Refusal.CODE_UNSPECIFIED, str(error))
            status = grpc.StatusCode.INVALID_ARGUMENT
        except TransientError as error:
            refused = refusal(objects_pb2.Refusal.CODE_BUSY, error.message, error.hint, retry_after=10.0)
            status = grpc.StatusCode.RESOURCE_EXHAUSTED
        return await abort(context, refused, status)


def _neighbours(request: admin_pb2.SetTopologyRequest) -> tuple[Neighbour, ...]:
    if len(request.neighbours) > MOST_NEIGHBOURS:
        raise ValueError(f"{len(request.neighbours)} neighbours, {MOST_NEIGHBOURS} are allowed")
    found = tuple(
        Neighbour(checked_address(neighbour.address), _node_id(neighbour.node_id) if neighbour.node_id else None)
        for neighbour in request.neighbours
    )
    if len({neighbour.address for neighbour in found}) < len(found):
        raise ValueError("a neighbour is there twice")
    return found


def _node_id(raw: bytes) -> UUID:
    if len(raw) != 16:
        raise ValueError(f"a node id has 16 bytes, not {len(raw)}")
    return UUID(bytes=raw)


def _reason(text: str) -> str:
    if len(text) > MOST_REASON or not text.isprintable():
        raise ValueError(f"a reason has at most {MOST_REASON} printable characters")
    return text


def _reply(state: NodeState) -> admin_pb2.GetStateReply:
    return admin_pb2.GetStateReply(
        node_id=state.node_id.bytes,
        incarnation=state.incarnation,
        topology_generation=state.topology_generation,
        neighbours=[
            admin_pb2.Neighbour(address=known.address, node_id=known.node_id.bytes if known.node_id else b"")
            for known in state.neighbours
        ],
        sightings=[
            peer_pb2.Sighting(
                node_id=seen.node_id.bytes,
                incarnation=seen.incarnation,
                state=_STATES[seen.state],
                address=seen.address,
                seen_ms_ago=max(round(seen.seen_ago * 1000), 0),
            )
            for seen in state.sightings
        ],
        newest=[
            objects_pb2.Newest(
                lineage=head.lineage,
                node_id=head.node_id.bytes,
                incarnation=head.incarnation,
                seq=head.seq,
                epoch=head.epoch,
            )
            for head in state.newest
        ],
        banned=[node_id.bytes for node_id in state.banned],
        draining=state.draining,
    )
