"""What callers of ``Peer`` are told: answers, refusals with their reasons, and bounds for everybody."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from mergenode.adapters.peers.membership.peer_service import PeerServiceLimits
from mergenode.wire.v1 import objects_pb2, peer_pb2
from mergenode.wire.v1.peer_pb2_grpc import PeerStub
from mergenode.wire.views import MESSAGE_BYTES
from tests.support.peer_nodes import OPEN, PATIENCE, PeerNode, channel, draft, identity, keyed, start_node

ONE, TWO = identity(2), identity(3)
Code = objects_pb2.Refusal.Code
Story = Callable[[PeerNode, Any], Awaitable[None]]


def run(tmp_path: Path, story: Story, limits: PeerServiceLimits = OPEN) -> None:
    """Tell the story to a node that calls nobody, with a stub for it."""

    async def told() -> None:
        node = await start_node(tmp_path, identity(1), calls=False, limits=limits)
        try:
            async with channel(node.address) as opened:
                await story(node, PeerStub(opened))
        finally:
            await node.stop()

    asyncio.run(told())


def hello(**fields: Any) -> peer_pb2.HelloRequest:
    given = {"protocol_min": 1, "protocol_max": 3, "node_id": ONE.node_id.bytes, "incarnation": 2, "address": "one:1"}
    return peer_pb2.HelloRequest(**{**given, **fields})


def view(**fields: Any) -> peer_pb2.View:
    return peer_pb2.View(**{"node_id": ONE.node_id.bytes, "incarnation": 2, **fields})


@asynccontextmanager
async def refused(status: grpc.StatusCode, says: str, code: Any = Code.CODE_UNSPECIFIED) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    assert caught.value.code() is status and says in (caught.value.details() or "")
    details = [value for key, value in caught.value.trailing_metadata() if key == "grpc-status-details-bin"]
    refusal = objects_pb2.Refusal(code=code, message=caught.value.details() or "").SerializeToString()
    assert len(details) == 1 and refusal in details[0], "what it says in words it says for programs too"


def test_hello_says_who_both_are(tmp_path: Path) -> None:
    async def story(node: PeerNode, stub: Any) -> None:
        reply = await stub.Hello(hello(capabilities=["heads"]))
        own = node.membership.greeting()
        assert (reply.protocol, reply.node_id, reply.incarnation) == (1, own.node_id.bytes, 1)
        assert list(reply.capabilities) == ["heads"] and reply.clock_unix_ms > 1e12
        row = node.membership.picture().table[0]
        assert (row.node_id, row.incarnation, row.address) == (ONE.node_id, 2, "one:1")
        assert row.capabilities == {"heads"} and row.direct and not row.dialled
        assert [each.address for each in node.membership.callers()] == ["one:1"]

    run(tmp_path, story)


def test_a_clock_that_is_an_hour_off_is_told_and_changes_nothing(tmp_path: Path) -> None:
    async def story(node: PeerNode, stub: Any) -> None:
        for hours in (-1, 1):
            unix = node.membership.clock()[1] + 3600 * hours
            await stub.Hello(hello(clock_unix_ms=int(1000 * unix)))
            row = node.membership.picture().table[0]
            assert row.state == "alive" and row.skew is not None and abs(row.skew - 3600 * hours) < 60

    run(tmp_path, story)


@pytest.mark.parametrize(
    ("request_", "status", "says"),
    [
        (hello(node_id=b"x"), grpc.StatusCode.INVALID_ARGUMENT, "HelloRequest.node_id: a node id has 16 bytes"),
        (hello(protocol_min=2), grpc.StatusCode.FAILED_PRECONDITION, "speaks version 2 to 3 of the protocol"),
        (hello(node_id=identity(1).node_id.bytes), grpc.StatusCode.FAILED_PRECONDITION, "is this node: start 2"),
        (view(sightings=[peer_pb2.Sighting()]), grpc.StatusCode.INVALID_ARGUMENT, "View.sightings[0].node_id"),
        (view(newest=[objects_pb2.Newest()]), grpc.StatusCode.INVALID_ARGUMENT, "View.newest[0].lineage"),
        (peer_pb2.GetHeadsRequest(lineage="others"), grpc.StatusCode.NOT_FOUND, "'others' is not exchanged"),
        (peer_pb2.GetHeadsRequest(lineage=""), grpc.StatusCode.INVALID_ARGUMENT, "1 to 128"),
        (peer_pb2.GetHeadsRequest(lineage="words", after_node=b"x"), grpc.StatusCode.INVALID_ARGUMENT, "after_node"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(tmp_path: Path, request_: Any, status: grpc.StatusCode, says: str) -> None:
    async def story(node: PeerNode, stub: Any) -> None:
        calls = {"HelloRequest": stub.Hello, "View": stub.Exchange, "GetHeadsRequest": stub.GetHeads}
        code = Code.CODE_STALE if "start 2" in says else Code.CODE_UNSPECIFIED
        code = Code.CODE_NOT_ALLOWED if "others" in says else code
        async with refused(status, says, code):
            await calls[type(request_).__name__](request_)
        assert node.membership.picture().table == (), "nobody was met"
        assert sum(node.membership.tally.refusals().values()) == 1

    run(tmp_path, story)


def test_messages_that_are_too_long_are_refused(tmp_path: Path) -> None:
    async def story(node: PeerNode, stub: Any) -> None:
        long = [peer_pb2.Sighting(node_id=b"x" * 16, address="a:1") for _ in range(5000)]
        async with refused(grpc.StatusCode.INVALID_ARGUMENT, "65536 are allowed"):
            await stub.Exchange(view(sightings=long))
        known = [objects_pb2.Newest(lineage="words", node_id=b"x" * 16)] * 5000
        async with refused(grpc.StatusCode.INVALID_ARGUMENT, "65536 are allowed"):
            async for _ in stub.WatchHeads(peer_pb2.WatchHeadsRequest(lineage="words", known=known)):
                pass

    run(tmp_path, story)


def test_an_older_start_and_a_banned_node_are_refused_until_that_ends(tmp_path: Path) -> None:
    async def story(node: PeerNode, stub: Any) -> None:
        await stub.Exchange(view())
        for call, request in ((stub.Hello, hello(incarnation=1)), (stub.Exchange, view(incarnation=1))):
            async with refused(grpc.StatusCode.FAILED_PRECONDITION, "a later start of", Code.CODE_STALE):
                await call(request)
        node.membership.bans.ban(ONE.node_id, None, "by hand")
        for call, request in ((stub.Hello, hello()), (stub.Exchange, view())):
            async with refused(grpc.StatusCode.PERMISSION_DENIED, "is banned here", Code.CODE_BANNED):
                await call(request)
        node.membership.bans.lift(ONE.node_id)
        assert (await stub.Exchange(view())).node_id == node.node_id.bytes
        counts = node.membership.tally.of(ONE.node_id)
        assert counts == {"outdated": 2} and node.membership.tally.refusals()["banned"] == 2

    run(tmp_path, story)


def test_views_go_both_ways_and_make_ids_known(tmp_path: Path) -> None:
    async def story(node: PeerNode, stub: Any) -> None:
        node.membership.publish(draft())
        seen = peer_pb2.Sighting(node_id=TWO.node_id.bytes, incarnation=7, address="two:1", seen_ms_ago=1500)
        await stub.Exchange(view(sightings=[seen]))
        answer = await stub.Exchange(view())
        own, *others = answer.sightings
        assert (own.node_id, own.address, own.seen_ms_ago) == (node.node_id.bytes, node.address, 0)
        assert [each.node_id for each in others] == [ONE.node_id.bytes, TWO.node_id.bytes]
        assert (others[1].incarnation, others[1].address) == (7, "two:1") and others[1].seen_ms_ago >= 1500
        position = answer.newest[0]
        assert (position.lineage, position.node_id, position.seq) == ("words", node.node_id.bytes, 1)
        assert node.membership.admit(keyed(TWO), ONE.node_id).head is not None
        assert TWO.node_id in node.membership.newest()

    run(tmp_path, story)


def test_a_page_of_heads_fits_into_a_message(tmp_path: Path) -> None:
    async def story(node: PeerNode, stub: Any) -> None:
        people = [identity(number) for number in range(10, 26)]
        for who in people:
            node.membership._members.pin(who.node_id)
            metrics = {f"{'x' * 60}{number:03}": 1.0 for number in range(32)}
            parents = tuple(draft_parent(number) for number in range(128))
            node.membership.admit(keyed(who, metrics=metrics, parents=parents), ONE.node_id)
        seen, request = [], peer_pb2.GetHeadsRequest(lineage="words")
        while True:
            reply = await stub.GetHeads(request)
            assert reply.heads and reply.ByteSize() <= MESSAGE_BYTES
            seen += [held for held in reply.heads]
            if not reply.more:
                break
            request.after_node = sorted(who.node_id.bytes for who in people)[len(seen) - 1]
        assert len(seen) == len(people) and [head.key for head in seen] == [
            who.key.public_key().public_bytes_raw() for who in sorted(people, key=lambda who: who.node_id.bytes)
        ]

    run(tmp_path, story)


def draft_parent(number: int) -> Any:
    from uuid import UUID

    from mergenode.wire.blocks import Root
    from mergenode.wire.heads import Parent

    return Parent(UUID(int=number), Root(b"p" * 32), 0.5)


def test_watchers_hear_what_is_new_to_them_and_only_that(tmp_path: Path) -> None:
    async def story(node: PeerNode, stub: Any) -> None:
        node.membership._members.pin(TWO.node_id)
        node.membership.publish(draft())
        node.membership.admit(keyed(TWO), ONE.node_id)
        known = [objects_pb2.Newest(lineage="words", node_id=node.node_id.bytes, incarnation=1, seq=1)]
        call = stub.WatchHeads(peer_pb2.WatchHeadsRequest(lineage="words", known=known), timeout=PATIENCE)
        assert await call.read() == keyed(TWO).message()
        second = node.membership.publish(draft(epoch=2))
        assert await call.read() == node.membership.heads.held[node.node_id].keyed.message() and second.seq == 2
        call.cancel()

    run(tmp_path, story)


def test_watches_end_by_themselves_and_their_number_is_bounded(tmp_path: Path) -> None:
    async def story(node: PeerNode, stub: Any) -> None:
        request = peer_pb2.WatchHeadsRequest(lineage="words")
        node.membership.publish(draft())
        calls = [stub.WatchHeads(request, timeout=PATIENCE) for _ in range(2)]
        for call in calls:
            await call.read()
        async with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "as many watchers", Code.CODE_BUSY):
            await stub.WatchHeads(request, timeout=PATIENCE).read()
        for call in calls:
            assert await call.read() is grpc.aio.EOF and await call.code() is grpc.StatusCode.OK
        again = stub.WatchHeads(request, timeout=PATIENCE)
        assert await again.read() is not grpc.aio.EOF
        again.cancel()

    run(tmp_path, story, PeerServiceLimits(watchers_per_caller=2, watch_seconds=3.0, calls=1e9))


def test_who_calls_without_end_is_told_to_wait(tmp_path: Path) -> None:
    async def story(node: PeerNode, stub: Any) -> None:
        for _ in range(5):
            await stub.Hello(hello())
        async with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "calls too often", Code.CODE_BUSY):
            await stub.Hello(hello())
        assert node.membership.tally.refusals()["busy"] == 1

    run(tmp_path, story, PeerServiceLimits(calls=5.0, calls_per_second=1e-6))


def test_a_flood_of_ids_is_refused_once_the_house_is_full(tmp_path: Path) -> None:
    async def story(node: PeerNode, stub: Any) -> None:
        for number in range(64):
            await stub.Exchange(view(node_id=number.to_bytes(16, "big")))
        async with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "as many neighbours", Code.CODE_BUSY):
            await stub.Exchange(view(node_id=b"x" * 16))
        assert len(node.membership.picture().table) == 64

    run(tmp_path, story)


def test_garbage_on_every_call_leaves_the_node_as_it_was(tmp_path: Path) -> None:
    """Messages with flipped, cut and repeated bytes: an answer or a status, bounded memory, and others are served."""
    dice = random.Random(4)
    seen = [peer_pb2.Sighting(node_id=bytes([n]) * 16, address=f"n{n}:1", incarnation=n) for n in range(9)]
    newest = [objects_pb2.Newest(lineage="words", node_id=bytes([n]) * 16, seq=n) for n in range(9)]
    good = {
        "Hello": hello(capabilities=["heads"]),
        "Exchange": view(sightings=seen, newest=newest),
        "GetHeads": peer_pb2.GetHeadsRequest(lineage="words", after_node=b"a" * 16),
        "WatchHeads": peer_pb2.WatchHeadsRequest(lineage="words", known=newest),
    }

    def spoilt(data: bytes) -> bytes:
        bad = bytearray(data)
        for _ in range(dice.randint(1, 4)):
            bad[dice.randrange(len(bad))] ^= 1 << dice.randrange(8)
        return bytes(bad[: dice.randint(0, len(bad))] if dice.random() < 0.3 else bad * dice.randint(1, 3))

    async def story(node: PeerNode, stub: Any) -> None:
        statuses = set()
        async with channel(node.address) as raw:
            for number in range(400):
                name = dice.choice(list(good))
                path, bad = f"/mergenode.v1.Peer/{name}", spoilt(good[name].SerializeToString())
                if name == "WatchHeads":
                    raw.unary_stream(path)(bad).cancel()
                    continue
                try:
                    await raw.unary_unary(path)(bad, timeout=PATIENCE)
                    statuses.add(grpc.StatusCode.OK)
                except grpc.aio.AioRpcError as error:
                    statuses.add(error.code())
                if number % 100 == 0:
                    await stub.Hello(hello(node_id=TWO.node_id.bytes))
        assert {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT} <= statuses
        assert grpc.StatusCode.DEADLINE_EXCEEDED not in statuses
        assert len(node.membership.picture().table) <= 1024 and not node.membership.bans.banned()
        assert await stub.Hello(hello(node_id=TWO.node_id.bytes))

    run(tmp_path, story)
