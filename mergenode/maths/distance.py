"""How far apart two large tensors are, accumulated in fp64 without an fp64 copy of either."""

from __future__ import annotations

import torch
from torch import Tensor

from mergenode.maths.norms import CHUNK, chunks, exact_total, wide_buffer


def squared_distance(left: Tensor, right: Tensor) -> float:
    """||left - right||^2, the sum of squared differences of two tensors of equal shape and float dtype.

    Differences are taken in that dtype: of numbers within a factor of two of each other they are exact (Sterbenz 1974),
    else off by half an ulp. Squares and sums are fp64. Accurate to about 1e-7 relative in fp32, and to 1e-10 where the
    tensors are close; deterministic; allocates 2 MiB at most (contiguous input).

    Raises:
        ValueError: the shapes differ.
    """
    if left.shape != right.shape:
        raise ValueError(f"distance of shapes {tuple(left.shape)} and {tuple(right.shape)}")
    flat_left, flat_right = left.reshape(-1), right.reshape(-1)
    wide = wide_buffer(flat_left.numel(), left.device)
    narrow = torch.empty(min(flat_left.numel(), CHUNK), dtype=left.dtype, device=left.device)
    parts = []
    for part in chunks(flat_left.numel()):
        size = part.stop - part.start
        x = wide[:size].copy_(torch.sub(flat_left[part], flat_right[part], out=narrow[:size]))
        parts.append(torch.dot(x, x).item())
    return exact_total(parts)
