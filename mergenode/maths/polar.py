"""The orthonormal factor of a polar decomposition: all directions of a matrix at equal strength.

A = U diag(s) V^T (thin singular value decomposition) has the polar factor U V^T, the nearest matrix with orthonormal
rows or columns. Singular vectors that belong to rounding noise are arbitrary, so only the pairs above the numerical
rank enter: the factor of a rank-deficient matrix is a partial isometry, the same on every machine up to rounding.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mergenode.maths.gram import PANEL_ELEMENTS, REFLECTOR_BLOCK
from mergenode.maths.rank import numerical_rank
from mergenode.maths.subspaces import leading_subspaces


class Polar(NamedTuple):
    """``factor``: U V^T, (m, n), a new row-major tensor of the matrix' dtype. ``values``: the ``rank`` singular values
    above the noise, fp64, descending, on the CPU."""

    factor: Tensor
    values: Tensor
    rank: int
    fallback: bool


def polar_factor(matrix: Tensor) -> Polar:
    """Polar factor of ``matrix`` (m, n), finite, any strides, not modified. Zero for the zero matrix.

    Error against exact arithmetic: about 1e-6 of its norm in fp32 for singular values above the noise. Peak memory
    beyond input and result: ``polar_bytes(m, n, itemsize)``.

    Raises:
        LinAlgError: the matrix has no decomposition (it is not finite).
    """
    if not bool(matrix.any()):
        empty = torch.empty(0, dtype=torch.float64)
        return Polar(torch.zeros_like(matrix, memory_format=torch.contiguous_format), empty, 0, False)
    wide = matrix.shape[0] < matrix.shape[1]
    tall = matrix.mT if wide else matrix
    found = leading_subspaces(tall, lambda values: numerical_rank(values, tall.shape, tall.dtype))
    left, right = (found.right, found.left) if wide else (found.left, found.right)
    rank = left.shape[1]
    return Polar(left @ right.mT, found.values[:rank], rank, found.fallback)


def polar_bytes(m: int, n: int, itemsize: int) -> int:
    """Upper bound of what ``polar_factor`` has allocated at any time beyond its input and its result.

    With k = min(m, n): reflectors and all eigenvectors, 2 k^2 fp64; or the eigenvectors and both thin factors; or copy,
    factors and workspace of the fallback. Plus panels and column blocks.
    """
    short, long = min(m, n), max(m, n)
    square, thin = 8 * short * short, itemsize * long * short
    panels = 3 * 8 * max(64 * short, PANEL_ELEMENTS) + 3 * 8 * REFLECTOR_BLOCK * short + (4 << 20)
    return max(2 * square, square + 2 * thin, 3 * thin + square // 2) + panels
