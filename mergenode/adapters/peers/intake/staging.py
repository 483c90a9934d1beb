"""A model that arrives block by block: one safetensors file of final size, every block at its final place.

Tensors are in the order of the manifest, those of wide elements first, so that each starts at a multiple of its element
size as libraries that map such files expect.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

from mergenode.adapters.durable import disk_errors, write_all
from mergenode.wire.manifest import BlockPlace, Manifest

_ALIGNMENT = 8
_BLOCK_OF_STAT = 512
_NO_ALLOCATION = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


class StagedWeights:
    """The file of one upload. Reading and writing different places from several threads is safe."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """Nothing is opened yet."""
        self.path = path
        self._header, self._starts = _plan(manifest)
        self.size = len(self._header) + manifest.total_bytes
        self._fd = -1

    def create(self) -> None:
        """An empty file of final size with its header; takes no room for the blocks yet."""
        with disk_errors(self.path):
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            os.ftruncate(self._fd, self.size)
            write_all(self._fd, self._header, 0)

    def allocate(self) -> None:
        """Take the room, where the file system can. Raises TransientError (DISK_FULL)."""
        with disk_errors(self.path):
            try:
                os.posix_fallocate(self._fd, 0, self.size)
            except OSError as error:
                if error.errno not in _NO_ALLOCATION:
                    raise

    def open(self) -> bool:
        """Open what an earlier life left; False when it is not there or not of that size."""
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        return os.fstat(self._fd).st_size == self.size

    def close(self) -> None:
        """Release the descriptor. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def write(self, place: BlockPlace, data: bytes | memoryview) -> None:
        """The bytes of one block. Not durable before ``sync``."""
        with disk_errors(self.path):
            write_all(self._fd, data, self._offset(place))

    def read(self, place: BlockPlace) -> bytes:
        """What lies at the place of a block; short when the file is."""
        with disk_errors(self.path):
            return os.pread(self._fd, place.length, self._offset(place))

    def sync(self) -> None:
        """Durability: what was written is on disk."""
        with disk_errors(self.path):
            os.fsync(self._fd)

    def _offset(self, place: BlockPlace) -> int:
        return self._starts[place.tensor.spec.name] + place.first_byte


def allocated_bytes(path: Path) -> int:
    """Bytes of the disk that a file holds already; 0 when there is none."""
    try:
        return os.stat(path).st_blocks * _BLOCK_OF_STAT
    except FileNotFoundError:
        return 0


def _plan(manifest: Manifest) -> tuple[bytes, dict[str, int]]:
    """Everything before the data, and where in the file each tensor starts."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    begins: dict[str, int] = {}
    begin = 0
    for entry in sorted(manifest.tensors, key=lambda entry: -entry.spec.dtype.size):
        spec = entry.spec
        begins[spec.name] = begin
        end = begin + spec.nbytes
        entries[spec.name] = {"dtype": spec.dtype.value, "shape": list(spec.shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=True).encode()
    text = text.ljust(-(-len(text) // _ALIGNMENT) * _ALIGNMENT)
    header = len(text).to_bytes(8, "little") + text
    return header, {name: len(header) + begin for name, begin in begins.items()}
