"""Symmetric matrices that are stored once: half the memory, a quarter less work to make, sums that stay packed.

With k = ceil(n / 2), G = [[A, B^T], [B, C]], A of k rows. The triangle of A and that of C fill one rectangle, B stands
below it: (n + 1, k) in all. It is the idea of LAPACK's rectangular full packed format (Gustavson et al. 2010), with
row-major blocks, and one row more than needed where n is odd.

    row 0 ..     C^T upper triangle, C[q, p] at (p, q), p <= q
    row 1 ..     A   lower triangle, A[i, j] at (i + 1, j), j <= i
    row k + 1 .. B

Packed matrices of the same order add up as the matrices do.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def packed_shape(order: int) -> tuple[int, int]:
    """Shape of a packed symmetric matrix of this order."""
    return order + 1, (order + 1) // 2


def order_of(packed: Tensor) -> int:
    return packed.shape[0] - 1


def packed_gram(tall: Tensor) -> Tensor:
    """X^T X of ``tall`` X (m, n), any strides: packed, its dtype. Three quarters of the work of a full product.

    Memory beyond the result: a quarter of n x n.
    """
    n = tall.shape[1]
    packed = tall.new_zeros(packed_shape(n))
    first, second = tall[:, : packed.shape[1]], tall[:, packed.shape[1] :]
    top, below = _parts(packed)
    torch.matmul(second.mT, first, out=below)
    top[1:] = (first.mT @ first).tril_()
    top[: second.shape[1], : second.shape[1]].add_((second.mT @ second).triu_())
    return packed


def packed(matrix: Tensor) -> Tensor:
    """``matrix`` (n, n), of which only the lower triangle is read, packed."""
    n = matrix.shape[0]
    result = matrix.new_zeros(packed_shape(n))
    k = result.shape[1]
    top, below = _parts(result)
    below.copy_(matrix[k:, :k])
    top[1:] = matrix[:k, :k].tril()
    top[: n - k, : n - k].add_(matrix[k:, k:].tril().mT)
    return result


def diagonal(packed: Tensor) -> Tensor:
    """The n diagonal elements: (n,), new."""
    n = order_of(packed)
    top, _ = _parts(packed)
    return torch.cat([top[1:].diagonal(), top.diagonal()[: n - packed.shape[1]]])


def product(left: Tensor, packed: Tensor, *, out: Tensor | None = None) -> Tensor:
    """``left`` (m, n) times the matrix: (m, n), dtype of ``left``; new, or ``out``, row- or column-major.

    Memory beyond the result: half of n x n in the dtype of ``left``.
    """
    n, k = order_of(packed), packed.shape[1]
    top, below = _parts(packed)
    result = left.new_empty((left.shape[0], n)) if out is None else out
    first, second = result[:, :k], result[:, k:]
    torch.mm(left[:, :k], _mirrored(top[1:].to(left.dtype)), out=first)
    torch.mm(left[:, k:], _mirrored(top[: n - k, : n - k].mT.to(left.dtype)), out=second)
    corner = below.to(left.dtype)
    first.addmm_(left[:, k:], corner)
    second.addmm_(left[:, :k], corner.mT)
    return result


def wide_lower(packed: Tensor) -> NDArray[np.float64]:
    """The matrix in fp64 for LAPACK, (n, n) column-major: the lower triangle, anything finite above it. On the CPU."""
    n, k = order_of(packed), packed.shape[1]
    top, below = _parts(packed)
    lower = np.empty((n, n), order="F")
    target = torch.from_numpy(lower)
    target[:k, :k] = top[1:]
    target[k:, :k] = below
    target[k:, k:] = top[: n - k, : n - k].mT
    target[:k, k:] = 0.0
    return lower


def _parts(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Views: the two triangles, (k + 1, k), and the block below the diagonal, (n - k, k)."""
    return packed[: packed.shape[1] + 1], packed[packed.shape[1] + 1 :]


def _mirrored(lower: Tensor) -> Tensor:
    """The symmetric matrix whose lower triangle is given, new."""
    full = lower.tril()
    return full.add_(lower.tril(-1).mT)
