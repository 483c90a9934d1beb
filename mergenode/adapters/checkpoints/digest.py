"""What a checkpoint *is*: a digest of its tensors, whatever files, shards and headers carry them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from blake3 import blake3

from mergenode.adapters.checkpoints.adapter_config import read_adapter_config
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.checkpoints.weights import DEFAULT_LIMITS, WeightFiles, open_weights
from mergenode.types import Digest, DType

DIGEST_PREFIX = "blake3:"
CHUNK_BYTES = 4 << 20
_DOMAIN = b"mergenode/content/1\n"

ByteProgress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""


def no_progress(done: int, total: int) -> None:
    """Progress nobody looks at."""


def digest_of(raw: bytes) -> Digest:
    """A 32-byte blake3 value as text."""
    return Digest(DIGEST_PREFIX + raw.hex())


class ContentDigest:
    """Collects the tensors of one checkpoint, in any order.

    The value is blake3 over the domain ``mergenode/content/1``, then for every tensor, sorted by name: name, element
    type, shape and blake3 of its bytes, then the canonical adapter settings; every field with its length before it.
    """

    def __init__(self) -> None:
        self._tensors: dict[str, bytes] = {}

    def add(self, name: str, dtype: DType, shape: tuple[int, ...], tensor_digest: bytes) -> None:
        """One tensor: ``tensor_digest`` is the 32-byte blake3 of its bytes. ValueError when it is there already."""
        if name in self._tensors or len(tensor_digest) != 32:
            raise ValueError(f"tensor {name!r} was added before, or its digest has not 32 bytes")
        fields = (dtype.encode(), ",".join(map(str, shape)).encode(), tensor_digest)
        self._tensors[name] = b"".join(map(_framed, fields))

    def finish(self, extra: bytes = b"") -> Digest:
        """The content digest; ``extra`` is ``Contribution.canonical_config``."""
        hasher = blake3(_DOMAIN)
        for name in sorted(self._tensors):
            hasher.update(_framed(name.encode()) + self._tensors[name])
        hasher.update(b"settings" + _framed(extra))
        return digest_of(hasher.digest())


def _framed(field: bytes) -> bytes:
    return len(field).to_bytes(8, "little") + field


def content_digest(
    path: Path,
    *,
    root: Path | None = None,
    limits: Limits = DEFAULT_LIMITS,
    progress: ByteProgress = no_progress,
) -> Digest:
    """The content digest of a whole checkpoint, in one pass with one buffer of 4 MiB.

    Equal to what the engine computes while it folds the same checkpoint.

    Raises:
        RejectedError, TransientError: as ``open_weights``; also when it changed during the pass.
    """
    content = ContentDigest()
    with open_weights(path, root=root, limits=limits) as weights:
        settings = b""
        if weights.adapter:
            settings = read_adapter_config(weights.path, root=weights.root, limits=limits).canonical
        buffer = memoryview(bytearray(CHUNK_BYTES))
        total = sum(spec.nbytes for spec in weights.specs.values())
        done = 0
        for name, spec in weights.specs.items():
            hasher = blake3()
            for offset in range(0, spec.nbytes, CHUNK_BYTES):
                part = buffer[: min(CHUNK_BYTES, spec.nbytes - offset)]
                weights.read_into(name, offset, part)
                hasher.update(part)
                done += part.nbytes
                progress(done, total)
            content.add(name, spec.dtype, spec.shape, hasher.digest())
        weights.assert_unchanged()
    return content.finish(settings)


def fingerprint(path: Path, *, root: Path | None = None, limits: Limits = DEFAULT_LIMITS) -> str:
    """A cheap key for "these files have not been touched": blake3 over names, sizes and modification times.

    Covers the weight files and ``config.json``, and reads headers only. Equal fingerprints mean equal content as far
    as the file system can tell.
    """
    hasher = blake3(b"mergenode/fingerprint/1\n")
    with open_weights(path, root=root, limits=limits) as weights:
        for name, size, mtime_ns in weights.identities():
            hasher.update(_framed(os.fsencode(name)) + _framed(f"{size} {mtime_ns}".encode()))
        try:
            config = (weights.path / "config.json").stat()
            hasher.update(_framed(f"{config.st_size} {config.st_mtime_ns}".encode()))
        except OSError:
            pass  # none: it may be absent, and a bare file has none
    return hasher.hexdigest()


def same_bytes(weights: WeightFiles, first: str, second: str) -> bool:
    """Whether two tensors hold the same bytes, compared piece by piece."""
    nbytes = weights.specs[first].nbytes
    if nbytes != weights.specs[second].nbytes:
        return False
    left, right = (memoryview(bytearray(min(CHUNK_BYTES, nbytes))) for _ in range(2))
    for offset in range(0, nbytes, CHUNK_BYTES):
        size = min(CHUNK_BYTES, nbytes - offset)
        weights.read_into(first, offset, left[:size])
        weights.read_into(second, offset, right[:size])
        if left[:size] != right[:size]:
            return False
    return True
