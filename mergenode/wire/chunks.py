"""The bulk path: ``Chunk`` of objects.proto made and read by hand, and put together to blocks.

A protobuf library copies the data twice and doubles the CPU of a whole transfer. These are the same bytes, made by one
join and read by slicing; a frame in an unusual order of fields goes through the library.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from mergenode.errors import RejectedError
from mergenode.wire.blocks import BLOCK_BYTES
from mergenode.wire.encoding import Encoded, Encoding
from mergenode.wire.packing import malformed
from mergenode.wire.v1 import objects_pb2

CHUNK_BYTES = 1 << 20
"""Longest data of one chunk: 64 KiB cost half as much again, 16 MiB need 200 MiB of memory."""

_LAST = 1
_DATA = 15
_UPLOAD_ID = 5
_MOST_HEADER = 128
_LONGEST_UPLOAD_ID = 64


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an encoded block. ``data`` may be a view of the frame that it came in."""

    block: int
    offset: int
    encoding: int
    last: bool
    data: bytes | memoryview
    upload_id: bytes = b""


def frame_chunk(chunk: Chunk) -> bytes:
    """The protobuf bytes of ``Chunk``: fields ascending, zero ones left out, the data last."""
    return b"".join((frame_header(chunk, len(chunk.data)), chunk.data))


def frame_header(chunk: Chunk, length: int) -> bytes:
    """The bytes before the data of a frame with ``length`` bytes of it; ``chunk.data`` is not looked at."""
    header = bytearray()
    for number, value in enumerate((chunk.block, chunk.offset, chunk.encoding, int(chunk.last)), start=1):
        if value:
            header += bytes([number << 3]) + _varint(value)
    if chunk.upload_id:
        header += bytes([_UPLOAD_ID << 3 | 2]) + _varint(len(chunk.upload_id)) + chunk.upload_id
    return bytes(header + (bytes([_DATA << 3 | 2]) + _varint(length) if length else b""))


def chunks_of(block: int, encoded: Encoded, upload_id: bytes = b"") -> Iterator[Chunk]:
    """An encoded block in pieces; views of its payload. ``upload_id`` goes with the first."""
    view = memoryview(encoded.payload)
    for offset in range(0, len(view), CHUNK_BYTES):
        piece = view[offset : offset + CHUNK_BYTES]
        last = offset + len(piece) == len(view)
        yield Chunk(block, offset, encoded.encoding, last, piece, b"" if offset else upload_id)


def read_chunk(frame: bytes) -> Chunk:
    """The chunk in a frame, whoever made it. Its data is a view of ``frame`` where that was made by ``frame_chunk``.

    Raises:
        RejectedError: HEADER_INVALID; no chunk, or one that is longer than chunks and blocks are.
    """
    if len(frame) > CHUNK_BYTES + _MOST_HEADER:
        raise malformed("chunk", f"{len(frame)} bytes, {CHUNK_BYTES} of data are allowed")
    chunk = _read_by_hand(frame) or _read_by_library(frame)
    if len(chunk.data) > CHUNK_BYTES or len(chunk.upload_id) > _LONGEST_UPLOAD_ID:
        raise malformed("chunk", f"{len(chunk.data)} bytes of data, an upload id of {len(chunk.upload_id)}")
    if chunk.offset + len(chunk.data) > BLOCK_BYTES:
        raise malformed("chunk", f"{len(chunk.data)} bytes at {chunk.offset} of a block of at most {BLOCK_BYTES}")
    return chunk


class BlockAssembly:
    """Puts the chunks of one block together. Memory: never more than ``length`` bytes of payload."""

    def __init__(self, block: int, length: int) -> None:
        """``length``: of the decoded block, from the manifest; no encoding is longer."""
        self._block, self._length = block, length
        self._payload = bytearray()
        self._encoding: Encoding | None = None

    def add(self, chunk: Chunk) -> Encoded | None:
        """The block once its last chunk is there, else None.

        Raises:
            RejectedError: HEADER_INVALID; of another block, out of order, empty, of changing or unknown encoding, or
                longer than the block.
        """
        at = f"chunk of block {self._block}"
        if chunk.block != self._block or chunk.offset != len(self._payload) or not chunk.data:
            fault = f"block {chunk.block}, {len(chunk.data)} bytes at {chunk.offset}, {len(self._payload)} expected"
            raise malformed(at, fault)
        if chunk.offset + len(chunk.data) > self._length:
            raise malformed(at, f"{chunk.offset + len(chunk.data)} bytes, the block has {self._length}")
        encoding = _encoding(chunk.encoding, at)
        if self._encoding not in (None, encoding):
            raise malformed(at, "another encoding than before")
        self._encoding = encoding
        self._payload += chunk.data
        return Encoded(encoding, bytes(self._payload)) if chunk.last else None


def _encoding(number: int, at: str) -> Encoding:
    try:
        return Encoding(number)
    except ValueError as error:
        raise malformed(at, f"encoding {number} is not known here and was not asked for") from error


def _varint(value: int) -> bytes:
    """Base 128, lowest group first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_by_hand(frame: bytes) -> Chunk | None:
    """None: not as ``frame_chunk`` writes it."""
    at, before = 0, 0
    numbers = [0, 0, 0, 0]
    parts = {_UPLOAD_ID: memoryview(b""), _DATA: memoryview(b"")}
    while at < len(frame):
        number, kind = frame[at] >> 3, frame[at] & 7
        value, at = _read_varint(frame, at + 1)
        if value < 1 or number <= before:
            return None
        before = number
        if kind == 0 and number <= len(numbers):
            numbers[number - 1] = value
        elif kind == 2 and number in parts and at + value <= len(frame):
            parts[number] = memoryview(frame)[at : at + value]
            at += value
        else:
            return None
    block, offset, encoding, flags = numbers
    if flags > _LAST or encoding >> 31:
        return None
    return Chunk(block, offset, encoding, flags == _LAST, parts[_DATA], bytes(parts[_UPLOAD_ID]))


def _read_varint(frame: bytes, at: int) -> tuple[int, int]:
    """Value and where it ends; -1 where it is cut, too long for 64 bits or not the shortest form."""
    value = shift = 0
    for end in range(at, min(at + 10, len(frame))):
        value |= (frame[end] & 0x7F) << shift
        shift += 7
        if frame[end] < 0x80:
            shortest = frame[end] != 0 or end == at
            return (value if shortest and value < 1 << 64 else -1), end + 1
    return -1, len(frame)


def _read_by_library(frame: bytes) -> Chunk:
    try:
        read = objects_pb2.Chunk.FromString(frame)
    except DecodeError as error:
        raise _not_a_chunk() from error
    return Chunk(read.block, read.offset, read.encoding, bool(read.flags & _LAST), read.data, read.upload_id)


def _not_a_chunk() -> RejectedError:
    return malformed("chunk", "not a frame of this protocol")
