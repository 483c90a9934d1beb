"""One fine-tune, taken apart, encoded against its base, put together again and compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from mergenode.adapters.checkpoints.weights import WeightFiles, open_weights
from mergenode.wire.blocks import block_id
from mergenode.wire.chunks import BlockAssembly, chunks_of, frame_chunk, read_chunk
from mergenode.wire.describing import describe
from mergenode.wire.encoding import Encoded, Encoding, decode_block, encode_block
from mergenode.wire.manifest import BlockPlace, Manifest
from mergenode.wire.wanted import BaseBlocks, held_blocks, lacking


@dataclass
class Travel:
    """What one model cost. Bytes on the wire include the manifest and the frames of all chunks; CPU is in seconds."""

    weight_bytes: int
    wire_bytes: int
    encode_cpu: float = 0.0
    frame_cpu: float = 0.0
    decode_cpu: float = 0.0
    hash_cpu: float = 0.0

    @property
    def share(self) -> float:
        """Bytes on the wire for a byte of weights."""
        return self.wire_bytes / self.weight_bytes

    def per_gb(self, seconds: float) -> float:
        """CPU seconds for 10^9 bytes of weights."""
        return seconds / self.weight_bytes * 1e9


def described(path: Path) -> tuple[Manifest, float, float]:
    """Manifest of a checkpoint, CPU seconds of making it, and of only reading and hashing the same bytes."""
    with open_weights(path) as files:
        hashing = _timed(lambda: _hash_whole(files))
        begun = time.process_time()
        manifest = describe(files.specs.values(), files.read_into)
        return manifest, time.process_time() - begun, hashing


def travel(base: Path, tuned: Path, accept: Collection[Encoding]) -> Travel:
    """Send ``tuned`` to a receiver that holds ``base``, in memory. AssertionError: something else arrived."""
    with open_weights(base) as old, open_weights(tuned) as new:
        base_manifest = describe(old.specs.values(), old.read_into)
        manifest = describe(new.specs.values(), new.read_into, base_manifest.root)
        bases = BaseBlocks(base_manifest)
        result = Travel(manifest.total_bytes, len(manifest.packed))
        for index in lacking(manifest, held_blocks([base_manifest])).fetch:
            place = manifest.place(index)
            against = bases.against(place)
            _send(place, _bytes_of(new, place), None if against is None else _bytes_of(old, against), accept, result)
        return result


def _send(place: BlockPlace, block: bytes, base: bytes | None, accept: Collection[Encoding], result: Travel) -> None:
    dtype = place.tensor.spec.dtype
    begun = time.process_time()
    encoded = encode_block(block, dtype, base, accept)
    result.encode_cpu += time.process_time() - begun
    begun = time.process_time()
    arrived = _framed(place, encoded, result)
    result.frame_cpu += time.process_time() - begun
    begun = time.process_time()
    decoded = decode_block(arrived, dtype, place.length, base)
    result.decode_cpu += time.process_time() - begun
    begun = time.process_time()
    assert block_id(decoded) == place.id
    result.hash_cpu += time.process_time() - begun


def _framed(place: BlockPlace, encoded: Encoded, result: Travel) -> Encoded:
    assembly, arrived = BlockAssembly(place.index, place.length), None
    for chunk in chunks_of(place.index, encoded):
        frame = frame_chunk(chunk)
        result.wire_bytes += len(frame) + 5  # gRPC puts five bytes before every message
        arrived = assembly.add(read_chunk(frame))
    assert arrived is not None
    return arrived


def _bytes_of(files: WeightFiles, place: BlockPlace) -> bytes:
    buffer = bytearray(place.length)
    files.read_into(place.tensor.spec.name, place.first_byte, memoryview(buffer))
    return bytes(buffer)


def _hash_whole(files: WeightFiles) -> None:
    hasher, buffer = blake3(), memoryview(bytearray(8 << 20))
    for name, spec in files.specs.items():
        for first in range(0, spec.nbytes, len(buffer)):
            piece = buffer[: min(len(buffer), spec.nbytes - first)]
            files.read_into(name, first, piece)
            hasher.update(piece)


def _timed(action: Callable[[], None]) -> float:
    begun = time.process_time()
    action()
    return time.process_time() - begun
