"""Manifests: everything a receiver has to know of a model before it asks for the first block.

The canonical bytes, little-endian, no padding:

    "mergenode manifest 1\\n"
    1 byte: is there a base; then its root, 32 bytes
    4 bytes: number of tensors, sorted by the UTF-8 bytes of their names, none twice; for each
        2 bytes: length of the name; the name
        1 byte: element type, by its place in ``DTYPE_CODES``
        1 byte: number of dimensions; 8 bytes for each
        1 byte: all values finite; 8 + 8 bytes: norm and largest magnitude (``values.py``)
        32 bytes for each block, as many as follow from type and shape

Neither offsets nor numbers of blocks are written, so there are none to lie about.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

from blake3 import blake3

from mergenode.types import DType, TensorSpec
from mergenode.wire.blocks import BLOCK_BYTES, ID_BYTES, BlockId, Root, block_count, block_lengths
from mergenode.wire.packing import packed_float, packed_number, packed_text
from mergenode.wire.values import NOTHING_MEASURED, ValueFigures

MAGIC = b"mergenode manifest 1\n"

DTYPE_CODES = (
    DType.F64, DType.F32, DType.F16, DType.BF16, DType.I64, DType.I32, DType.I16, DType.I8, DType.U8, DType.BOOL,
)  # fmt: skip
"""Element types by the number that stands for them. Only ever appended to."""

_TENSOR_CONTEXT = "mergenode wire 1 tensor"
_SCHEMA_CONTEXT = "mergenode wire 1 schema"


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of a manifest. ``ids``: the ids of its blocks, one after another."""

    spec: TensorSpec
    ids: bytes
    figures: ValueFigures = NOTHING_MEASURED

    def __post_init__(self) -> None:
        if len(self.ids) != ID_BYTES * block_count(self.spec.nbytes):
            raise ValueError(f"{self.spec.name!r}: {len(self.ids)} bytes of ids for {self.spec.nbytes} bytes")

    @property
    def tensor_id(self) -> bytes:
        """32 bytes, equal for tensors of equal type, shape and content whatever their names."""
        return blake3(_packed_form(self.spec) + self.ids, derive_key_context=_TENSOR_CONTEXT).digest()


@dataclass(frozen=True, slots=True)
class BlockPlace:
    """Where a block lies. ``index``: in the manifest; ``first_byte``: in its tensor; ``offset``: in all blocks."""

    index: int
    tensor: TensorEntry
    first_byte: int
    length: int
    offset: int

    @property
    def id(self) -> BlockId:
        at = self.first_byte // BLOCK_BYTES * ID_BYTES
        return BlockId(self.tensor.ids[at : at + ID_BYTES])


@dataclass(frozen=True)
class Manifest:
    """A model by content. ``tensors`` are sorted by the UTF-8 bytes of their names; ``manifest_of`` sorts."""

    tensors: tuple[TensorEntry, ...]
    base_root: Root | None = None

    def __post_init__(self) -> None:
        names = [entry.spec.name.encode() for entry in self.tensors]
        for before, after in pairwise(names):
            if before >= after:
                raise ValueError(f"tensor {after.decode()!r} is there twice or out of order")

    @cached_property
    def packed(self) -> bytes:
        """The canonical bytes."""
        base = b"\0" if self.base_root is None else b"\1" + self.base_root
        count = packed_number(len(self.tensors), 4)
        return b"".join((MAGIC, base, count, *map(_packed_entry, self.tensors)))

    @cached_property
    def root(self) -> Root:
        """What the model is asked for by."""
        return Root(blake3(self.packed).digest())

    @cached_property
    def schema_hash(self) -> bytes:
        """32 bytes, equal for models of equal names, types and shapes."""
        forms = (packed_text(entry.spec.name) + _packed_form(entry.spec) for entry in self.tensors)
        return blake3(b"".join(forms), derive_key_context=_SCHEMA_CONTEXT).digest()

    @property
    def block_count(self) -> int:
        return self._first_blocks[-1]

    @property
    def total_bytes(self) -> int:
        """Of all blocks, decoded."""
        return self._offsets[-1]

    def place(self, index: int) -> BlockPlace:
        """Block ``index``. IndexError when there is none."""
        if not 0 <= index < self.block_count:
            raise IndexError(f"block {index} of {self.block_count}")
        number = bisect_right(self._first_blocks, index) - 1
        entry, first = self.tensors[number], (index - self._first_blocks[number]) * BLOCK_BYTES
        return BlockPlace(
            index, entry, first, min(BLOCK_BYTES, entry.spec.nbytes - first), self._offsets[number] + first
        )

    def places(self) -> Iterator[BlockPlace]:
        """All blocks, by index."""
        index = offset = 0
        for entry in self.tensors:
            first = 0
            for length in block_lengths(entry.spec.nbytes):
                yield BlockPlace(index, entry, first, length, offset + first)
                index, first = index + 1, first + length
            offset += first

    @cached_property
    def _first_blocks(self) -> list[int]:
        return list(accumulate((block_count(entry.spec.nbytes) for entry in self.tensors), initial=0))

    @cached_property
    def _offsets(self) -> list[int]:
        return list(accumulate((entry.spec.nbytes for entry in self.tensors), initial=0))


def manifest_of(entries: Iterable[TensorEntry], base_root: Root | None = None) -> Manifest:
    """The manifest of tensors in any order. ValueError: a name is there twice."""
    return Manifest(tuple(sorted(entries, key=lambda entry: entry.spec.name.encode())), base_root)


def _packed_entry(entry: TensorEntry) -> bytes:
    figures = entry.figures
    numbers = packed_float(figures.l2) + packed_float(figures.max_abs)
    values = packed_number(figures.finite, 1) + numbers
    return packed_text(entry.spec.name) + _packed_form(entry.spec) + values + entry.ids


def _packed_form(spec: TensorSpec) -> bytes:
    """Element type and shape."""
    dimensions = b"".join(packed_number(length, 8) for length in spec.shape)
    return packed_number(DTYPE_CODES.index(spec.dtype), 1) + packed_number(len(spec.shape), 1) + dimensions
