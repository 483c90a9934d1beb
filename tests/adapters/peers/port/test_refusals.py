"""Refusals, from one end to the other, and from ends that lie."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.adapters.peers.port.channels import open_aio_channel, open_channel
from mergenode.adapters.peers.port.refusals import DETAILS, STATUS_OF, Refused, abort, refusal, refusal_of
from mergenode.wire.v1.objects_pb2 import Newest, Refusal
from tests.support.peer_ports import PATIENCE, call, open_port

FETCH = "/mergenode.v1.Blobs/Fetch"
NODES = tuple(uuid4() for _ in range(3))


class Answers:
    """A Fetch that ends with what it is told to."""

    def __init__(self) -> None:
        self.refusal: Refusal | None = None
        self.status: grpc.StatusCode | None = None
        self.metadata: tuple[tuple[str, bytes], ...] = ()

    async def fetch(self, request: bytes, context: Any) -> Any:
        if self.refusal is not None:
            await abort(context, self.refusal, self.status)
        await context.abort(grpc.StatusCode.NOT_FOUND, "not here", self.metadata)
        yield b""

    def register(self, server: grpc.aio.Server) -> None:
        handlers = {"Fetch": grpc.unary_stream_rpc_method_handler(self.fetch)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("mergenode.v1.Blobs", handlers),))

    def sync(self, address: str) -> grpc.RpcError:
        with open_channel(address, None) as channel, pytest.raises(grpc.RpcError) as failed:
            call(channel, FETCH)
        return failed.value


async def aio_error(address: str) -> grpc.RpcError | None:
    async with open_aio_channel(address, None) as channel:
        try:
            async for _ in channel.unary_stream(FETCH)(b"", timeout=PATIENCE):
                pass
        except grpc.RpcError as error:
            return error
    return None


def test_every_code_has_a_status() -> None:
    assert set(STATUS_OF) == set(Refusal.Code.values())
    assert grpc.StatusCode.OK not in STATUS_OF.values()


def test_it_arrives_as_it_was_sent() -> None:
    answers = Answers()
    with open_port(None, [answers.register]) as opened:
        for code, status in STATUS_OF.items():
            answers.refusal = refusal(code, "später, ☃", "do\tthis", retry_after=1.5, alternatives=NODES)
            expected = Refused(code, "später, ☃", "do\N{REPLACEMENT CHARACTER}this", 1.5, NODES)
            for error in (
                answers.sync(opened.address),
                opened.server.call_soon(aio_error(opened.address)).result(PATIENCE),
            ):
                assert isinstance(error, grpc.Call | grpc.aio.AioRpcError)
                assert (error.code(), error.details()) == (status, "später, ☃")
                assert refusal_of(error) == expected
        answers.status = grpc.StatusCode.ABORTED
        error = answers.sync(opened.address)
        assert isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.ABORTED


def test_what_is_sent_fits_into_the_metadata_that_others_take() -> None:
    answers = Answers()
    with open_port(None, [answers.register]) as opened:
        answers.refusal = refusal(
            Refusal.CODE_BUSY, "☃" * 5000, "☃" * 5000, retry_after=1e9, alternatives=[uuid4() for _ in range(500)]
        )
        told = refusal_of(answers.sync(opened.address))
    assert told is not None and len(told.message) == len(told.hint) == 1024
    assert told.retry_after == 3600 and len(told.alternatives) == 16
    assert refusal(Refusal.CODE_BUSY, "", retry_after=-5).retry_after_ms == 0


def details(*packed: Message) -> bytes:
    status = Status(code=5)
    for message in packed:
        status.details.add().Pack(message)
    return status.SerializeToString()


def received(*metadata: tuple[str, bytes | str]) -> Refused | None:
    """What is made of an error with this trailing metadata."""
    return refusal_of(grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, None, grpc.aio.Metadata(*metadata), "not here"))


def test_errors_without_one() -> None:
    answers = Answers()
    with open_port(None, [answers.register]) as opened:
        assert refusal_of(answers.sync(opened.address)) is None
        answers.metadata = ((DETAILS, b"\xff\xff\xff"),)
        assert refusal_of(answers.sync(opened.address)) is None
    assert refusal_of(grpc.RpcError()) is None
    assert received() is None and received((DETAILS, b"")) is None and received(("other", "x")) is None
    assert received((DETAILS, details(Newest(lineage="x")))) is None


def test_one_among_other_details_is_found() -> None:
    found = received(("x", "y"), (DETAILS, details(Newest(), Refusal(code=Refusal.CODE_STALE, message="old"))))
    assert found == Refused(Refusal.CODE_STALE, "old")


def test_what_a_liar_sends_is_bounded() -> None:
    hostile = Refusal(
        message="a\x1b[31m" * 5000, hint="\0", retry_after_ms=2**63, alternatives=[b"short", NODES[0].bytes]
    )
    raw = hostile.SerializeToString() + b"\x08\xe7\x07"  # code 999
    found = received((DETAILS, details(Refusal.FromString(raw))))
    assert found is not None
    assert found.code == Refusal.CODE_UNSPECIFIED and found.retry_after == 3600 and found.alternatives == (NODES[0],)
    assert len(found.message) == 1024 and "\x1b" not in found.message and found.hint == "\N{REPLACEMENT CHARACTER}"


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda raw: Status(code=5).SerializeToString() + raw))
@settings(deadline=None, max_examples=200)
def test_any_bytes_are_a_refusal_or_none(raw: bytes) -> None:
    found = received((DETAILS, raw))
    assert found is None or 0 <= found.retry_after <= 3600


CODES, WAITS = st.sampled_from(Refusal.Code.values()), st.integers(0, 3_600_000)


@given(st.tuples(CODES, st.text(max_size=30), WAITS, st.lists(st.uuids(), max_size=16)))
@settings(deadline=None, max_examples=100)
def test_any_refusal_comes_back(sent: tuple[Any, str, int, list[UUID]]) -> None:
    code, message, milliseconds, ids = sent
    made = refusal(code, message, retry_after=milliseconds / 1000, alternatives=ids)
    found = received((DETAILS, details(made)))
    plain = "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in message)
    assert found == Refused(code, plain, "", milliseconds / 1000, tuple(ids))
