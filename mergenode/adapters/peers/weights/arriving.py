"""Frames of one stream become verified blocks, in bounded memory whatever the sender sends."""

from __future__ import annotations

from collections.abc import Iterable

from blake3 import blake3

from mergenode.adapters.peers.weights.landing import Landing
from mergenode.adapters.peers.weights.shelf_reader import ShelfReader
from mergenode.adapters.peers.weights.transfer_observer import TransferObserver
from mergenode.errors import RejectedError, TransientError, TransientReason
from mergenode.wire.blocks import BlockId, block_id
from mergenode.wire.chunks import BlockAssembly, Chunk, read_chunk
from mergenode.wire.encoding import Encoded, Encoding, decode_block
from mergenode.wire.manifest import BlockPlace
from mergenode.wire.packing import malformed
from mergenode.wire.transfer import Verdict
from mergenode.wire.wanted import BaseBlocks


class ArrivingBlocks:
    """The answer to one request. Raw blocks are written and hashed as they come; others are put together first."""

    def __init__(
        self,
        landing: Landing,
        asked: Iterable[int],
        source: str,
        base: ShelfReader | None,
        observer: TransferObserver,
    ) -> None:
        """``asked``: indexes of the request, each comes at most once. ``base``: what the sender was told is here."""
        self._landing, self._source, self._observer = landing, source, observer
        self._asked = set(asked)
        self._base = base
        self._against = BaseBlocks(base.manifest) if base is not None else None
        self._place: BlockPlace | None = None
        self._hasher, self._written = blake3(), 0
        self._assembly: BlockAssembly | None = None
        self.wasted_bytes = 0
        """Bytes that came and are of no use: of wrong blocks, and of the one that is not whole yet."""

    @property
    def complete(self) -> bool:
        """Every block that was asked for came, right or wrong."""
        return not self._asked and self._place is None

    def add(self, frame: bytes) -> Verdict | None:
        """The next frame. A verdict with the last one of a block, which is on its way to disk when VERIFIED.

        Raises:
            RejectedError: HEADER_INVALID; what no honest sender sends: garbage, blocks that were not asked for, or
                twice, pieces out of order, more than a block has.
            TransientError: the disk is full or failing.
        """
        chunk = read_chunk(frame)
        self.wasted_bytes += len(chunk.data)
        place = self._placed(chunk)
        if self._assembly is None:
            return self._add_raw(place, chunk)
        encoded = self._assembly.add(chunk)
        if encoded is None:
            return None
        found = self._decoded(place, encoded)
        return self._ended(place, found, encoded.encoding, len(encoded.payload))

    def _placed(self, chunk: Chunk) -> BlockPlace:
        """The block that the chunk is of; with its first chunk the way it travels is settled."""
        if self._place is None:
            if chunk.block not in self._asked or chunk.offset:
                raise malformed("answer with blocks", f"{chunk.offset} of block {chunk.block}, which was not asked for")
            self._asked.discard(chunk.block)
            self._place = self._landing.manifest.place(chunk.block)
            raw = chunk.encoding == Encoding.RAW
            self._assembly = None if raw else BlockAssembly(chunk.block, self._place.length)
            self._hasher, self._written = blake3(), 0
        return self._place

    def _add_raw(self, place: BlockPlace, chunk: Chunk) -> Verdict | None:
        end = self._written + len(chunk.data)
        right = (chunk.block, chunk.offset, chunk.encoding) == (place.index, self._written, Encoding.RAW)
        if not right or not chunk.data or end > place.length or (end == place.length) != chunk.last:
            raise malformed(
                f"raw block {place.index} of {place.length} bytes",
                f"{len(chunk.data)} bytes at {chunk.offset} of block {chunk.block}, {self._written} are here",
            )
        self._landing.write(place, self._written, chunk.data)
        self._hasher.update(chunk.data)
        self._written = end
        if not chunk.last:
            return None
        return self._ended(place, BlockId(self._hasher.digest()), Encoding.RAW, end)

    def _decoded(self, place: BlockPlace, encoded: Encoded) -> BlockId | None:
        """Decode and write; the id of what came out, None: nothing did."""
        if encoded.encoding.needs_base and self._base is None:
            raise malformed("answer with blocks", f"{encoded.encoding.name} of block {place.index} without a base")
        try:
            data = decode_block(encoded, place.tensor.spec.dtype, place.length, self._base_block(place, encoded))
        except RejectedError:
            return None
        found = block_id(data)
        if found == place.id:
            self._landing.write(place, 0, data)
        return found

    def _base_block(self, place: BlockPlace, encoded: Encoded) -> bytes | None:
        if not encoded.encoding.needs_base or self._base is None or self._against is None:
            return None
        against = self._against.against(place)
        if against is None:
            raise malformed("answer with blocks", f"a difference for block {place.index}, which the base has not")
        try:
            return bytes(self._base.read(against.index, memoryview(bytearray(against.length))))
        except RejectedError as error:  # this disk, not the sender; the base is gone from the shelf by now
            raise TransientError(TransientReason.READ_FAILED, error.message, hint=error.hint) from error

    def _ended(self, place: BlockPlace, found: BlockId | None, encoding: Encoding, payload: int) -> Verdict:
        self._place = self._assembly = None
        verdict = self._landing.judge(place, found, self._source)
        if verdict is Verdict.VERIFIED:
            self.wasted_bytes -= payload
        self._observer.moved("in", self._source, encoding, payload, place.length)
        return verdict
