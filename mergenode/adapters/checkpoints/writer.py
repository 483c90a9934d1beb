"""Writing one safetensors file of any size through small buffers.

Space for the header is reserved first, tensor data follows as it is computed, the header is written last and padded
with spaces: until then the file is unreadable, so that half a file can never be taken for a whole one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from mergenode.adapters.durable import write_all
from mergenode.types import Digest, TensorSpec

_ENTRY_OVERHEAD = 96
"""Bytes of JSON around a name: quotes, keys, two 20-digit offsets, the type."""
_DIMENSION_BYTES = 21


def header_reserve(specs: list[TensorSpec], metadata: Mapping[str, str]) -> int:
    """Bytes that surely hold the header of these tensors, so that data starts on a multiple of 8."""
    size = 64 + len(json.dumps(dict(metadata)))
    for spec in specs:
        size += len(json.dumps(spec.name)) + _ENTRY_OVERHEAD + _DIMENSION_BYTES * len(spec.shape)
    return (size + 7) // 8 * 8


@dataclass(slots=True)
class Region:
    """The place of one tensor in the file, written front to back and hashed on the way."""

    spec: TensorSpec
    begin: int
    written: int
    hasher: blake3

    @property
    def digest(self) -> Digest:
        return Digest(f"blake3:{self.hasher.hexdigest()}")


class SafetensorsWriter:
    """Writes one file. Durability: nothing until ``finish`` returned (with ``durable``)."""

    def __init__(self, path: Path, *, reserve: int, metadata: Mapping[str, str], durable: bool = True) -> None:
        self.path = path
        self._metadata = dict(metadata)
        self._reserve = reserve
        self._durable = durable
        self._end = 0
        self.regions: dict[str, Region] = {}
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)

    @property
    def bytes_written(self) -> int:
        return 8 + self._reserve + self._end

    def allocate(self, spec: TensorSpec) -> Region:
        """Reserve the next bytes of the file for a tensor."""
        if spec.name in self.regions:
            raise ValueError(f"{self.path}: tensor {spec.name!r} allocated twice")
        region = Region(spec, self._end, 0, blake3())
        self.regions[spec.name] = region
        self._end += spec.nbytes
        return region

    def append(self, name: str, data: memoryview) -> None:
        """Write the next bytes of an allocated tensor."""
        region = self.regions[name]
        if region.written + data.nbytes > region.spec.nbytes:
            raise ValueError(f"{self.path}: more bytes than tensor {name!r} has")
        write_all(self._fd, data, 8 + self._reserve + region.begin + region.written)
        region.hasher.update(data)
        region.written += data.nbytes

    def finish(self) -> None:
        """Write the header, sync, close. Raises ValueError when a tensor is incomplete."""
        entries: dict[str, object] = {"__metadata__": self._metadata}
        for name, region in self.regions.items():
            if region.written != region.spec.nbytes:
                raise ValueError(f"{self.path}: tensor {name!r} has {region.written} of {region.spec.nbytes} bytes")
            entries[name] = {
                "dtype": region.spec.dtype.value,
                "shape": list(region.spec.shape),
                "data_offsets": [region.begin, region.begin + region.spec.nbytes],
            }
        header = json.dumps(entries, separators=(",", ":"), ensure_ascii=True).encode()
        if len(header) > self._reserve:
            raise ValueError(f"{self.path}: header needs {len(header)} bytes, {self._reserve} were reserved")
        write_all(self._fd, self._reserve.to_bytes(8, "little") + header.ljust(self._reserve), 0)
        if self._durable:
            os.fsync(self._fd)
        self.close()

    def close(self) -> None:
        """Give the descriptor back; an unfinished file stays unreadable."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
