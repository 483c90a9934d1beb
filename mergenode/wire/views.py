"""Control messages read and written: every field of a peer's message is judged before anybody acts on it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from google.protobuf.message import Message

from mergenode.wire.heads import LINEAGE_CHARACTERS
from mergenode.wire.identity import KEY_BYTES
from mergenode.wire.limits import DEFAULT_WIRE_LIMITS
from mergenode.wire.packing import malformed
from mergenode.wire.sightings import OLDEST_SECONDS, PeerState, Sighting
from mergenode.wire.v1 import objects_pb2, peer_pb2

MESSAGE_BYTES = 64 << 10
"""Longest control message."""
SIGHTINGS_BYTES = 32 << 10
NEWEST_BYTES = 24 << 10
"""What a view spends on each; the rest is for the frame."""
MOST_ENTRIES = 2048
CAPABILITIES = 64
CAPABILITY_CHARACTERS = 64
ADDRESS_CHARACTERS = 261
SIGNATURE_BYTES = 64
PROTOCOL = 1
"""The version that is spoken here."""

_ADDRESS = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9]+)?\]):([0-9]{1,5})")
_CAPABILITY = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_SCHEMES = frozenset({"unix", "unix-abstract", "vsock", "ipv4", "ipv6", "dns", "xds", "passthrough", "fd"})
"""Hosts that gRPC would read as something else than a host."""
_MS = 1000.0
_M = TypeVar("_M", bound=Message)
_STATES = {
    peer_pb2.PEER_STATE_ALIVE: PeerState.ALIVE,
    peer_pb2.PEER_STATE_SUSPECT: PeerState.SUSPECT,
    peer_pb2.PEER_STATE_DOWN: PeerState.DOWN,
    peer_pb2.PEER_STATE_DRAINING: PeerState.DRAINING,
}
_NUMBERS = {state: number for number, state in _STATES.items()}


@dataclass(frozen=True, slots=True)
class Position:
    """How far one node is in one lineage."""

    lineage: str
    node_id: UUID
    incarnation: int
    seq: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Greeting:
    """``Hello``, in either direction. ``address`` is empty in an answer. ``clock``: seconds since 1970."""

    node_id: UUID
    incarnation: int
    protocols: range
    capabilities: frozenset[str]
    clock: float
    address: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """``Exchange``, in either direction."""

    node_id: UUID
    incarnation: int
    sightings: tuple[Sighting, ...]
    newest: tuple[Position, ...]
    clock: float


def is_address(text: str) -> bool:
    """Whether this is host:port and nothing that a resolver would take for another scheme.

    Example:
        >>> [is_address(text) for text in ("node-b:50051", "[::1]:50051", "unix:/run/x:1", "node-b:0")]
        [True, True, False, False]
    """
    found = _ADDRESS.fullmatch(text) if len(text) <= ADDRESS_CHARACTERS else None
    return found is not None and 0 < int(found[1]) < 1 << 16 and text[: found.start(1) - 1].lower() not in _SCHEMES


def node_id_from(raw: bytes, where: str) -> UUID:
    """A node id. RejectedError unless it has 16 bytes."""
    if len(raw) != 16:
        raise malformed(where, f"a node id has 16 bytes, not {len(raw)}")
    return UUID(bytes=raw)


def lineage_from(text: str, where: str) -> str:
    """The name of an exchange. RejectedError unless it is one that a head could carry."""
    if not 0 < len(text) <= LINEAGE_CHARACTERS or not text.isprintable() or text != text.strip():
        raise malformed(where, f"a lineage has 1 to {LINEAGE_CHARACTERS} printable characters, this is {text[:40]!r}")
    return text


def sized(message: Message, where: str) -> None:
    """RejectedError for a message that is longer than control messages are."""
    size = message.ByteSize()
    if size > MESSAGE_BYTES:
        raise malformed(where, f"{size} bytes, {MESSAGE_BYTES} are allowed")


def read_greeting(message: peer_pb2.HelloRequest | peer_pb2.HelloReply) -> Greeting:
    """RejectedError: HEADER_INVALID, with the field that nobody who follows the protocol would send."""
    where = type(message).__name__
    sized(message, where)
    node_id = node_id_from(message.node_id, f"{where}.node_id")
    if len(message.capabilities) > CAPABILITIES:
        raise malformed(where, f"{len(message.capabilities)} capabilities, {CAPABILITIES} are allowed")
    for name in message.capabilities:
        if len(name) > CAPABILITY_CHARACTERS or not _CAPABILITY.fullmatch(name):
            raise malformed(f"{where}.capabilities", f"{name[:40]!r} is no name of a capability")
    if isinstance(message, peer_pb2.HelloRequest):
        protocols = range(message.protocol_min, message.protocol_max + 1)
        address = _address(message.address, f"{where}.address")
    else:
        protocols, address = range(message.protocol, message.protocol + 1), ""
    capabilities, clock = frozenset(message.capabilities), message.clock_unix_ms / _MS
    return Greeting(node_id, message.incarnation, protocols, capabilities, clock, address)


def read_view(message: peer_pb2.View) -> View:
    """RejectedError: HEADER_INVALID, with the field that nobody who follows the protocol would send."""
    sized(message, "View")
    node_id = node_id_from(message.node_id, "View.node_id")
    return View(
        node_id,
        message.incarnation,
        tuple(_sighting(each, f"View.sightings[{n}]") for n, each in enumerate(message.sightings)),
        read_positions(message.newest, "View.newest"),
        message.clock_unix_ms / _MS,
    )


def read_positions(entries: Sequence[objects_pb2.Newest], where: str) -> tuple[Position, ...]:
    """RejectedError: HEADER_INVALID, as above."""
    if len(entries) > MOST_ENTRIES:
        raise malformed(where, f"{len(entries)} entries, {MOST_ENTRIES} are allowed")
    return tuple(
        Position(
            lineage_from(each.lineage, f"{where}[{n}].lineage"),
            node_id_from(each.node_id, f"{where}[{n}].node_id"),
            each.incarnation,
            each.seq,
            each.epoch,
        )
        for n, each in enumerate(entries)
    )


def check_head(message: objects_pb2.SignedHead, where: str) -> None:
    """RejectedError: HEADER_INVALID; lengths that no signed head has. What is in it is judged with the head."""
    if not 0 < len(message.head) <= DEFAULT_WIRE_LIMITS.head_bytes:
        raise malformed(where, f"a head of {len(message.head)} bytes, {DEFAULT_WIRE_LIMITS.head_bytes} are allowed")
    if len(message.signature) != SIGNATURE_BYTES or len(message.key) != KEY_BYTES:
        lengths = f"{len(message.signature)} and {len(message.key)}"
        raise malformed(where, f"signature and key have {SIGNATURE_BYTES} and {KEY_BYTES} bytes, not {lengths}")


def write_view(view: View, turn: int = 0) -> peer_pb2.View:
    """The message, at most ``MESSAGE_BYTES``.

    Where not everything fits, each ``turn`` sends another part, so that a receiver hears of all in a few messages. The
    first sighting, a node's word on itself, is in every one.
    """
    sightings = [_packed_sighting(each) for each in view.sightings]
    return peer_pb2.View(
        node_id=view.node_id.bytes,
        incarnation=view.incarnation,
        sightings=[*sightings[:1], *_part(sightings[1:], SIGHTINGS_BYTES, turn)],
        newest=_part(write_positions(view.newest), NEWEST_BYTES, turn),
        clock_unix_ms=milliseconds(view.clock),
    )


def write_positions(positions: Iterable[Position]) -> list[objects_pb2.Newest]:
    """One entry for each."""
    return [
        objects_pb2.Newest(
            lineage=each.lineage,
            node_id=each.node_id.bytes,
            incarnation=each.incarnation,
            seq=each.seq,
            epoch=each.epoch,
        )
        for each in positions
    ]


def milliseconds(seconds: float) -> int:
    """As clocks and ages travel."""
    return min(max(0, math.floor(seconds * _MS)), (1 << 64) - 1)


def _part(entries: list[_M], budget: int, turn: int) -> list[_M]:
    sizes = [entry.ByteSize() + 4 for entry in entries]
    if sum(sizes) <= budget:
        return entries
    fits = max(1, budget // max(sizes))
    first = turn * fits % len(entries)
    return [*entries[first : first + fits], *entries[: max(0, first + fits - len(entries))]]


def _sighting(message: peer_pb2.Sighting, where: str) -> Sighting:
    return Sighting(
        node_id_from(message.node_id, f"{where}.node_id"),
        message.incarnation,
        _STATES.get(message.state, PeerState.UNKNOWN),
        _address(message.address, f"{where}.address"),
        min(message.seen_ms_ago / _MS, OLDEST_SECONDS),
    )


def _packed_sighting(sighting: Sighting) -> peer_pb2.Sighting:
    return peer_pb2.Sighting(
        node_id=sighting.node_id.bytes,
        incarnation=sighting.incarnation,
        state=_NUMBERS.get(sighting.state, peer_pb2.PEER_STATE_UNSPECIFIED),
        address=sighting.address,
        seen_ms_ago=milliseconds(sighting.age),
    )


def _address(text: str, where: str) -> str:
    if text and not is_address(text):
        raise malformed(where, f"{text[:80]!r} is no host:port")
    return text
