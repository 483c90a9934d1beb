"""From the shelf to frames: read, verified, encoded against what the receiver has, cut into chunks."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection
from io import SEEK_END, BytesIO

from mergenode.adapters.peers.weights.shelf_reader import ShelfReader
from mergenode.wire.blocks import BLOCK_BYTES
from mergenode.wire.chunks import CHUNK_BYTES, Chunk, chunks_of, frame_chunk, frame_header
from mergenode.wire.encoding import Encoded, Encoding, encode_block
from mergenode.wire.wanted import BaseBlocks

CacheKey = tuple[bytes, bytes, int, frozenset[Encoding]]


class EncodedBlocks:
    """What was encoded a moment ago, for the next neighbour. Memory: at most ``most_bytes`` of payload."""

    def __init__(self, most_bytes: int = 64 << 20) -> None:
        self._most, self._bytes = most_bytes, 0
        self._blocks: OrderedDict[CacheKey, Encoded] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: CacheKey) -> Encoded | None:
        """The block, if it is still there."""
        with self._lock:
            found = self._blocks.get(key)
            if found is not None:
                self._blocks.move_to_end(key)
            return found

    def put(self, key: CacheKey, encoded: Encoded) -> None:
        """Remember a block; what was not asked for the longest goes."""
        with self._lock:
            if key in self._blocks or len(encoded.payload) > self._most:
                return
            self._blocks[key] = encoded
            self._bytes += len(encoded.payload)
            while self._bytes > self._most:
                self._bytes -= len(self._blocks.popitem(last=False)[1].payload)


class BlockServer:
    """The blocks of one request. Memory: two blocks and the frames of one. Safe to close while a thread is inside."""

    def __init__(
        self,
        model: ShelfReader,
        base: ShelfReader | None,
        accept: Collection[Encoding],
        cache: EncodedBlocks,
        caller: str,
    ) -> None:
        """Takes ownership of both readers. ``base``: a model that the receiver holds too; None: there is none."""
        self._model, self._base, self._cache, self._caller = model, base, cache, caller
        self._accept = frozenset(accept) | {Encoding.RAW}
        self._against = BaseBlocks(base.manifest) if base is not None else None
        self._buffer = memoryview(bytearray(BLOCK_BYTES))
        self._sets: list[list[BytesIO]] = [[], []]
        self._lock = threading.Lock()
        self._closed = False

    def close(self) -> None:
        """Give the files back. Idempotent."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._model.close()
                if self._base is not None:
                    self._base.close()

    def block_bytes(self, index: int) -> int:
        """Bytes of a block, decoded."""
        return self._model.manifest.place(index).length

    def frames(self, index: int) -> tuple[Encoding, int, list[bytes]]:
        """Encoding, payload bytes and frames of a block; no frames once it is closed.

        Raises:
            RejectedError: DIGEST_MISMATCH; it is damaged on this disk.
            TransientError: READ_FAILED.
        """
        with self._lock:
            if self._closed:
                return Encoding.RAW, 0, []
            if self._accept == {Encoding.RAW}:
                return Encoding.RAW, self.block_bytes(index), self._raw_frames(index)
            encoded = self._encoded(index, self._model.read(index, self._buffer, self._caller))
            frames = [frame_chunk(chunk) for chunk in chunks_of(index, encoded)]
            return encoded.encoding, len(encoded.payload), frames

    def _encoded(self, index: int, raw: memoryview) -> Encoded:
        base_root = self._base.root if self._base is not None else b""
        key = (self._model.root, base_root, index, self._accept)
        found = self._cache.get(key)
        if found is None:
            dtype = self._model.manifest.place(index).tensor.spec.dtype
            found = encode_block(bytes(raw), dtype, self._base_block(index), self._accept)
            if found.encoding is not Encoding.RAW:
                self._cache.put(key, found)
        return found

    def _base_block(self, index: int) -> bytes | None:
        if self._against is None or self._base is None:
            return None
        place = self._against.against(self._model.manifest.place(index))
        if place is None:
            return None
        return bytes(self._base.read(place.index, memoryview(bytearray(place.length))))

    def _raw_frames(self, index: int) -> list[bytes]:
        """The file is read straight into the frames, in buffers of the block before the last one."""
        length = self.block_bytes(index)
        self._sets.reverse()
        files, views = self._sets[0], []
        pieces = range(0, length, CHUNK_BYTES)
        while len(files) < len(pieces):
            files.append(BytesIO())
        for file, offset in zip(files, pieces, strict=False):
            size = min(CHUNK_BYTES, length - offset)
            header = frame_header(Chunk(index, offset, Encoding.RAW, offset + size == length, b""), size)
            views.append(_framed_buffer(file, header, size))
        try:
            self._model.read_pieces(index, views, self._caller)
        finally:
            for view in views:
                view.release()
        return [file.getvalue() for file, _ in zip(files, pieces, strict=False)]


def _framed_buffer(file: BytesIO, header: bytes, size: int) -> memoryview:
    """Where ``size`` bytes after ``header`` go. ``getvalue`` then gives both without a copy.

    A value that somebody still holds is never written to: the file copies itself first. That is rare, and saves
    joining header and data, a tenth of what serving costs.
    """
    total = len(header) + size
    file.seek(0)
    file.write(header)
    if file.seek(0, SEEK_END) > total:
        file.truncate(total)
    elif file.tell() < total:
        file.seek(total - 1)
        file.write(b"\0")
    return file.getbuffer()[len(header) :]
