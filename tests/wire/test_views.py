"""Control messages: every field of a peer's message is judged, and what is written fits."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.errors import RejectedError, RejectReason
from mergenode.wire.sightings import OLDEST_SECONDS, PeerState, Sighting
from mergenode.wire.v1 import objects_pb2, peer_pb2
from mergenode.wire.views import (
    MESSAGE_BYTES,
    MOST_ENTRIES,
    Position,
    View,
    check_head,
    is_address,
    read_greeting,
    read_positions,
    read_view,
    write_view,
)

ONE = UUID(int=7)


def hello(**fields: object) -> peer_pb2.HelloRequest:
    given = {"node_id": ONE.bytes, "protocol_min": 1, "protocol_max": 2, "capabilities": ["heads"], "address": "a:1"}
    return peer_pb2.HelloRequest(**{**given, **fields})  # type: ignore[arg-type]  # any field


def sighting(**fields: object) -> peer_pb2.View:
    one = peer_pb2.Sighting(**{"node_id": ONE.bytes, **fields})  # type: ignore[arg-type]  # any field
    return peer_pb2.View(node_id=ONE.bytes, sightings=[one])


def newest(**fields: object) -> peer_pb2.View:
    one = objects_pb2.Newest(**{"node_id": ONE.bytes, "lineage": "words", **fields})  # type: ignore[arg-type]  # any field
    return peer_pb2.View(node_id=ONE.bytes, newest=[one])


@pytest.mark.parametrize(
    ("read", "message", "says"),
    [
        (read_greeting, hello(node_id=b""), "HelloRequest.node_id: a node id has 16 bytes, not 0"),
        (read_greeting, hello(node_id=b"x" * 17), "not 17"),
        (read_greeting, hello(capabilities=["x"] * 65), "65 capabilities"),
        (read_greeting, hello(capabilities=["a\nb"]), "no name of a capability"),
        (read_greeting, hello(capabilities=["a" * 65]), "no name of a capability"),
        (read_greeting, hello(address="unix:/run/x"), "HelloRequest.address: 'unix:/run/x' is no host:port"),
        (read_greeting, hello(address="a" * 70_000), "65536 are allowed"),
        (read_view, peer_pb2.View(node_id=b"short"), "View.node_id"),
        (read_view, sighting(node_id=b"short"), "View.sightings[0].node_id"),
        (read_view, sighting(address="x" * 300 + ":1"), "View.sightings[0].address"),
        (read_view, newest(lineage=""), "View.newest[0].lineage"),
        (read_view, newest(lineage="a\x00b"), "printable"),
        (read_view, newest(lineage="x" * 129), "1 to 128"),
        (read_view, newest(node_id=b""), "View.newest[0].node_id"),
    ],
)
def test_what_nobody_would_send_is_named(read: Callable[[object], object], message: object, says: str) -> None:
    with pytest.raises(RejectedError) as caught:
        read(message)
    assert caught.value.reason is RejectReason.HEADER_INVALID and says in caught.value.message


@pytest.mark.parametrize(
    "fields", [{"head": b""}, {"head": b"x" * (16 << 10 | 1)}, {"signature": b"x" * 63}, {"key": b"x" * 33}]
)
def test_lengths_of_signed_heads(fields: dict[str, bytes]) -> None:
    good = {"head": b"x", "signature": b"s" * 64, "key": b"k" * 32}
    check_head(objects_pb2.SignedHead(**good), "here")
    with pytest.raises(RejectedError, match="here"):
        check_head(objects_pb2.SignedHead(**{**good, **fields}), "here")


def test_too_many_positions_are_refused() -> None:
    with pytest.raises(RejectedError, match="2049 entries"):
        read_positions([objects_pb2.Newest()] * (MOST_ENTRIES + 1), "here")


def test_what_is_not_known_is_taken_as_unspecified_and_ages_are_clamped() -> None:
    view = read_view(sighting(state=99, seen_ms_ago=2**64 - 1))
    assert view.sightings == (Sighting(ONE, 0, PeerState.UNKNOWN, "", OLDEST_SECONDS),)
    greeting = read_greeting(hello(protocol_min=3, protocol_max=2, clock_unix_ms=2**64 - 1))
    assert len(greeting.protocols) == 0 and greeting.clock == (2**64 - 1) / 1000


SCHEMES = ["unix:50051", "dns:50051", "vsock:1"]
NO_ADDRESSES = ["a", ":1", "a:", "a:65536", "a b:1", "a:1:2", "[x]:1", "a/b:1", "é:1"]


@pytest.mark.parametrize("text", [*SCHEMES, *NO_ADDRESSES])
def test_addresses_are_hosts_and_ports_and_no_schemes(text: str) -> None:
    assert not is_address(text)


addresses = st.sampled_from(["", "node-b.mergenode.svc:50051", "[fe80::1]:1", "x" * 253 + ":65535"])
counts = st.integers(0, 2**64 - 1)
sightings = st.builds(
    Sighting, st.uuids(), counts, st.sampled_from(PeerState), addresses, st.integers(0, 604_800).map(float)
)
positions = st.builds(Position, st.sampled_from(["a", "words", "ü" * 128]), st.uuids(), counts, counts, counts)
views = st.builds(
    View, st.uuids(), counts, st.lists(sightings, max_size=9).map(tuple), st.lists(positions, max_size=9).map(tuple),
    st.integers(0, 2**40).map(float),
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(views)
def test_views_come_back(view: View) -> None:
    assert read_view(peer_pb2.View.FromString(write_view(view).SerializeToString())) == view


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 1024), st.integers(0, 1024), st.integers(0, 261), st.integers(1, 128), st.integers(0, 9))
def test_whatever_is_known_a_view_fits_and_all_of_it_goes_in_a_few_turns(
    many: int, heads: int, long: int, name: int, start: int
) -> None:
    address = "" if long < 3 else "x" * (long - 2) + ":1"
    seen = tuple(Sighting(UUID(int=n), 2**63, PeerState.ALIVE, address, OLDEST_SECONDS) for n in range(many))
    newest = tuple(Position("ü" * name, UUID(int=n), 2**63, 2**63, 2**63) for n in range(heads))
    told_nodes, told_heads = set(), set()
    for turn in range(start, start + 30):
        message = write_view(View(ONE, 1, seen, newest, 1e9), turn)
        assert message.ByteSize() <= MESSAGE_BYTES
        read = read_view(message)
        assert read.sightings[0] == seen[0], "its word on itself is always there"
        told_nodes |= {each.node_id for each in read.sightings}
        told_heads |= {each.node_id for each in read.newest}
    assert (len(told_nodes), len(told_heads)) == (many, heads)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200), st.sampled_from([peer_pb2.HelloRequest, peer_pb2.HelloReply, peer_pb2.View]))
def test_garbage_is_refused_or_read_and_nothing_else(data: bytes, kind: type) -> None:
    try:
        message = kind.FromString(data)  # type: ignore[attr-defined]  # a message
        (read_view if kind is peer_pb2.View else read_greeting)(message)
    except (RejectedError, DecodeError):
        pass
