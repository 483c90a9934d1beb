"""Between bytes and tensors: own buffers, filled by ``read_into``, never a mapping of somebody else's file."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from mergenode.adapters.checkpoints.torch_dtypes import TORCH_DTYPES
from mergenode.methods.contract import Method
from mergenode.types import DType, TensorSpec

DTYPES = {value: key for key, value in TORCH_DTYPES.items()}

SLICE_ELEMENTS = 1 << 18
"""Grid of slices, in elements. Fixed, never adapted to memory or threads: sums depend on where slices end.
One slice in float32 is 1 MiB: what is computed from it stays in the cache of a core."""


class Readable(Protocol):
    """The part of an opened checkpoint that the engine needs."""

    def read_into(self, name: str, byte_offset: int, buffer: memoryview) -> None: ...


def accumulator_dtype(spec: TensorSpec) -> torch.dtype:
    """Statistics and arithmetic: float32, float64 for float64 weights."""
    return torch.float64 if spec.dtype is DType.F64 else torch.float32


def as_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous CPU tensor, not copied."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def read_slice(files: Readable, spec: TensorSpec, start: int, stop: int) -> tuple[Tensor, memoryview]:
    """Elements ``start`` to ``stop`` of the flattened tensor, in its own dtype, with the bytes they were made from."""
    raw = torch.empty((stop - start) * spec.dtype.size, dtype=torch.uint8)
    buffer = raw.numpy().data
    if buffer.nbytes:
        files.read_into(spec.name, start * spec.dtype.size, buffer)
    return raw.view(TORCH_DTYPES[spec.dtype]), buffer


def slices(spec: TensorSpec, *, whole: bool) -> list[tuple[int, int]]:
    """Ranges of the flattened tensor on the fixed grid; rows stay whole where a row fits into a slice.

    A tensor without elements has one empty range, so that it is written like the others.
    """
    if whole or spec.numel <= SLICE_ELEMENTS:
        return [(0, spec.numel)]
    row = spec.numel // spec.shape[0]
    step = SLICE_ELEMENTS // row * row if row <= SLICE_ELEMENTS else SLICE_ELEMENTS
    return [(start, min(start + step, spec.numel)) for start in range(0, spec.numel, step)]


def needs_whole_export(method: Method, spec: TensorSpec) -> bool:
    """Whether the export of this tensor cannot be cut into slices: it takes a decomposition, say."""
    return spec.dtype.is_float and method.exports_whole(spec)


def needs_whole(method: Method, spec: TensorSpec) -> bool:
    """Whether what folds and exports this tensor at once needs it whole: one of the two does."""
    return not method.elementwise(spec) or needs_whole_export(method, spec)
