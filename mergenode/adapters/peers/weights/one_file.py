"""A model as one safetensors file whose every byte follows from the manifest: tensors in its order, no gaps.

So a receiver knows where each block goes before the first one is there, and equal models are equal files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mergenode.adapters.durable import write_all
from mergenode.wire.blocks import BLOCK_BYTES
from mergenode.wire.manifest import BlockPlace, Manifest

_LENGTH_BYTES = 8
_ALIGNMENT = 8
_METADATA = {"format": "pt"}


@dataclass(frozen=True, slots=True)
class FilePlan:
    """``header``: everything before the data, length field included; a multiple of 8 bytes. ``size``: of the file."""

    header: bytes
    size: int

    def offset(self, place: BlockPlace) -> int:
        """Where a block lies, from the start of the file."""
        return len(self.header) + place.offset


def plan_file(manifest: Manifest) -> FilePlan:
    """The file of a manifest. Memory: a small multiple of the manifest."""
    entries: dict[str, object] = {"__metadata__": _METADATA}
    begin = 0
    for entry in manifest.tensors:
        end = begin + entry.spec.nbytes
        entries[entry.spec.name] = {
            "dtype": entry.spec.dtype.value,
            "shape": list(entry.spec.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=True).encode()
    text = text.ljust(-(-len(text) // _ALIGNMENT) * _ALIGNMENT)
    header = len(text).to_bytes(_LENGTH_BYTES, "little") + text
    return FilePlan(header, len(header) + begin)


def write_one_file(path: Path, manifest: Manifest, read_into: Callable[[str, int, memoryview], None]) -> None:
    """Write the model behind ``manifest`` whose bytes ``read_into`` gives.

    Memory: one block. Durability: the content is synced on return, the name is not. Errors of ``read_into`` pass
    through; OSError: the file cannot be written.
    """
    plan, buffer = plan_file(manifest), memoryview(bytearray(BLOCK_BYTES))
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        write_all(fd, plan.header, 0)
        for place in manifest.places():
            block = buffer[: place.length]
            read_into(place.tensor.spec.name, place.first_byte, block)
            write_all(fd, block, plan.offset(place))
        os.fsync(fd)
    finally:
        os.close(fd)
