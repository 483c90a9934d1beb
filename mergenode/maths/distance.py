"""How far apart two large tensors are, accumulated in fp64 without an fp64 copy of either."""

from __future__ import annotations

import torch
from torch import Tensor

from mergenode.maths.norms import chunks, exact_total, wide_buffer


def squared_distance(left: Tensor, right: Tensor) -> float:
    """||left - right||^2, the sum of squared differences of two tensors of equal shape (any shape, any float dtype).

    Differences are taken in fp64, so those of fp32 numbers are exact; accurate to about 1e-12 relative; deterministic;
    allocates 2 MiB at most (contiguous input).

    Raises:
        ValueError: the shapes differ.
    """
    if left.shape != right.shape:
        raise ValueError(f"distance of shapes {tuple(left.shape)} and {tuple(right.shape)}")
    flat_left, flat_right = left.reshape(-1), right.reshape(-1)
    wide_left = wide_buffer(flat_left.numel(), left.device)
    wide_right = wide_buffer(flat_left.numel(), left.device)
    parts = []
    for part in chunks(flat_left.numel()):
        size = part.stop - part.start
        x = wide_left[:size].copy_(flat_left[part])
        x.sub_(wide_right[:size].copy_(flat_right[part]))
        parts.append(torch.dot(x, x).item())
    return exact_total(parts)
