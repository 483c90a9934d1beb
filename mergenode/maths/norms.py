"""Norms and inner products of large fp32 tensors, accumulated in fp64 without an fp64 copy of the tensor.

The product of two fp32 numbers is exact in fp64, so the only errors are those of the fp64 additions: about
1e-13 relative. An fp32 dot product instead would flip about 0.4% of the bf16 values that depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import fsum, isfinite

import torch
from torch import Tensor

CHUNK = 1 << 17
"""Elements handled at a time: three fp64 buffers of this size (3 MiB) stay in the cache of one core."""


def chunks(numel: int) -> Iterator[slice]:
    """The consecutive slices of at most ``CHUNK`` elements that cover ``numel`` elements."""
    for start in range(0, numel, CHUNK):
        yield slice(start, min(start + CHUNK, numel))


def wide_buffer(numel: int, device: torch.device) -> Tensor:
    """An fp64 scratch buffer for one chunk of a tensor of ``numel`` elements.

    Chunks are copied into it even when they are fp64 already: BLAS may sum in another order when the start
    of an array is aligned differently, and a fresh buffer always is aligned the same.
    """
    return torch.empty(min(numel, CHUNK), dtype=torch.float64, device=device)


def exact_total(parts: Sequence[float]) -> float:
    """The correctly rounded sum; when the parts or their sum are not finite, whatever plain addition
    gives."""
    plain = sum(parts)
    return fsum(parts) if isfinite(plain) else plain


def inner(left: Tensor, right: Tensor) -> float:
    """<left, right>, the sum of elementwise products, of two tensors of equal shape (any shape, any float
    dtype).

    Accurate to about 1e-12 of ``|left| |right|``; deterministic; allocates 2 MiB at most (contiguous input).

    Raises:
        ValueError: the shapes differ.
    """
    if left.shape != right.shape:
        raise ValueError(f"inner product of shapes {tuple(left.shape)} and {tuple(right.shape)}")
    if left is right:
        return squared_norm(left)
    flat_left, flat_right = left.reshape(-1), right.reshape(-1)
    wide_left = wide_buffer(flat_left.numel(), left.device)
    wide_right = wide_buffer(flat_left.numel(), left.device)
    parts = []
    for part in chunks(flat_left.numel()):
        size = part.stop - part.start
        x = wide_left[:size].copy_(flat_left[part])
        y = wide_right[:size].copy_(flat_right[part])
        parts.append(torch.dot(x, y).item())
    return exact_total(parts)


def squared_norm(tensor: Tensor) -> float:
    """||tensor||^2, the sum of squares (any shape, any float dtype).

    Accurate to about 1e-12 relative; deterministic; allocates 1 MiB at most (contiguous input).
    """
    flat = tensor.reshape(-1)
    wide = wide_buffer(flat.numel(), tensor.device)
    parts = []
    for part in chunks(flat.numel()):
        x = wide[: part.stop - part.start].copy_(flat[part])
        parts.append(torch.dot(x, x).item())
    return exact_total(parts)


def sum_of_magnitudes(tensor: Tensor) -> float:
    """Sum of ``|x|`` over all elements (any shape, any float dtype), as accurate as ``squared_norm``."""
    flat = tensor.reshape(-1)
    wide = wide_buffer(flat.numel(), tensor.device)
    parts = [float(wide[: part.stop - part.start].copy_(flat[part]).abs_().sum()) for part in chunks(flat.numel())]
    return exact_total(parts)


def wide_square(chunk: Tensor, wide: Tensor) -> float:
    """||chunk||^2 as ``squared_norm`` computes it, of one chunk (1-D), in a ``wide_buffer``: for fused passes."""
    x = wide[: len(chunk)].copy_(chunk)
    return torch.dot(x, x).item()


def shown_inner(left: Tensor, right: Tensor) -> float:
    """<left, right> of two chunks (1-D, equal dtype) in their own precision, for people to look at.

    Of the accuracy of ``shown_squared_norm``, relative to ``|left| |right|``, and never for more than that.
    """
    return torch.dot(left, right).item()


def shown_squared_norm(tensor: Tensor) -> float:
    """||tensor||^2 for people to look at: fp32 inside a chunk, fp64 across chunks.

    Accurate to about 1e-6 relative, at a third of the cost of ``squared_norm``; deterministic. Never for a number that
    a published weight depends on. Wider tensors than fp32 are computed exactly.
    """
    if tensor.dtype is not torch.float32:
        return squared_norm(tensor)
    flat = tensor.reshape(-1)
    return exact_total([torch.dot(flat[part], flat[part]).item() for part in chunks(flat.numel())])
