"""The hand-made frames are protobuf, both ways; blocks come together or are refused."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mergenode.errors import RejectedError, RejectReason
from mergenode.wire.blocks import BLOCK_BYTES
from mergenode.wire.chunks import CHUNK_BYTES, BlockAssembly, Chunk, chunks_of, frame_chunk, frame_header, read_chunk
from mergenode.wire.encoding import Encoded, Encoding
from mergenode.wire.v1 import objects_pb2

chunks = st.builds(
    Chunk,
    block=st.integers(0, 2**64 - 1), offset=st.integers(0, BLOCK_BYTES - 300), encoding=st.integers(0, 2**31 - 1),
    last=st.booleans(), data=st.binary(max_size=300), upload_id=st.binary(max_size=64),
)  # fmt: skip


def by_library(chunk: Chunk) -> objects_pb2.Chunk:
    return objects_pb2.Chunk(
        block=chunk.block, offset=chunk.offset, encoding=chunk.encoding, flags=int(chunk.last),  # type: ignore[arg-type]  # open enumeration
        upload_id=chunk.upload_id, data=bytes(chunk.data),
    )  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(chunks)
def test_frames_are_those_of_the_library(chunk: Chunk) -> None:
    frame = frame_chunk(chunk)
    assert frame == by_library(chunk).SerializeToString(deterministic=True)
    assert read_chunk(frame) == chunk


@settings(deadline=None, max_examples=100)
@given(chunks)
def test_a_header_is_what_stands_before_the_data(chunk: Chunk) -> None:
    assert frame_header(chunk, len(chunk.data)) + bytes(chunk.data) == frame_chunk(chunk)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=40) | chunks.map(frame_chunk).flatmap(lambda f: st.integers(0, len(f)).map(lambda n: f[:n])))
@example(b"\x08\x80\x00")
@example(b"\x10\x01\x08\x01")
@example(b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
@example(b"\x08" + b"\xff" * 10)
@example(b"\x7a\xff\xff\xff\xff\x0fx")
@example(b"\x20\x03")
def test_any_bytes_read_as_the_library_reads_them(frame: bytes) -> None:
    try:
        expected = objects_pb2.Chunk.FromString(frame)
    except DecodeError:
        with pytest.raises(RejectedError):
            read_chunk(frame)
        return
    if len(expected.upload_id) > 64 or expected.offset + len(expected.data) > BLOCK_BYTES:
        with pytest.raises(RejectedError):
            read_chunk(frame)
        return
    read = read_chunk(frame)
    assert (read.block, read.offset, read.encoding, bytes(read.data), read.upload_id, read.last) == (
        expected.block, expected.offset, expected.encoding, expected.data, expected.upload_id, bool(expected.flags & 1),
    )  # fmt: skip


@pytest.mark.parametrize("length", [1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES + 5])
def test_blocks_come_back_from_their_chunks(length: int) -> None:
    encoded = Encoded(Encoding.ORDERED_SPLIT_ZSTD, bytes(range(251)) * (length // 251) + bytes(length % 251))
    pieces = [read_chunk(frame_chunk(chunk)) for chunk in chunks_of(4, encoded, b"upload")]
    assembly = BlockAssembly(4, length)
    results = [assembly.add(piece) for piece in pieces]
    assert results == [None] * (len(pieces) - 1) + [encoded]
    assert [piece.upload_id for piece in pieces] == [b"upload"] + [b""] * (len(pieces) - 1)
    assert all(len(piece.data) <= CHUNK_BYTES for piece in pieces)


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (Chunk(2, 3, 1, True, b"abc"), "block 2"),
        (Chunk(1, 0, 1, True, b"abc"), "3 expected"),
        (Chunk(1, 4, 1, True, b"abc"), "3 expected"),
        (Chunk(1, 3, 1, True, b""), "0 bytes"),
        (Chunk(1, 3, 2, True, b"abc"), "another encoding"),
        (Chunk(1, 3, 9, True, b"abc"), "encoding 9"),
        (Chunk(1, 3, 1, False, b"abcd"), "7 bytes, the block has 6"),
    ],
)
def test_chunks_that_do_not_belong_together(second: Chunk, says: str) -> None:
    assembly = BlockAssembly(1, 6)
    assert assembly.add(Chunk(1, 0, 1, False, b"abc")) is None
    with pytest.raises(RejectedError, match=says) as caught:
        assembly.add(second)
    assert caught.value.reason is RejectReason.HEADER_INVALID


def test_frames_that_are_too_long() -> None:
    for chunk in (
        Chunk(1, 0, 1, True, bytes(CHUNK_BYTES + 1)),
        Chunk(1, 0, 1, True, bytes(CHUNK_BYTES + 1000)),
        Chunk(1, BLOCK_BYTES, 1, True, b"x"),
        Chunk(1, 0, 1, True, b"", bytes(65)),
    ):
        with pytest.raises(RejectedError):
            read_chunk(frame_chunk(chunk))
