"""How much of a matrix lies in its few leading singular directions, without a decomposition of all of it.

Small matrices: all singular values. Large ones: subspace iteration on the smaller Gram side with a block that is wider
than what is asked for (Halko, Martinsson and Tropp, arXiv 0909.4061, algorithm 4.4), stopped when the energies stand
still. The energies that it finds are Ritz values: never above the true ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mergenode.maths.norms import squared_norm

SMALL = 256
"""Up to this smaller side all singular values are computed."""

BLOCK = 12
"""Columns of the iteration: about three times the directions that are asked for."""

MOST_ITERATIONS = 24

STANDS_STILL = 1e-5
"""The iteration ends when a step adds less than this share of the matrix' energy. Flat spectra end at once: what they
could still gain is small."""


def leading_energies(matrix: Tensor, count: int, start: Tensor | None = None) -> tuple[float, tuple[float, ...]]:
    """||matrix||^2, and how much of it lies in the 1, 2, ... ``count`` leading singular directions, fp64.

    Accurate to 1e-3 of ||matrix||^2, and to 1e-6 where the spectrum falls off behind them. NaN or infinities in the
    matrix give NaN everywhere. A matrix with fewer directions than ``count`` repeats its last entry.

    Args:
        matrix: (m, n), any float dtype, not modified.
        start: (min(m, n), BLOCK), full rank; the block that the iteration starts from. None: a fixed one.

    Memory: beyond the matrix two (max(m, n), BLOCK) blocks in its dtype.
    """
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT
    square = squared_norm(matrix)
    if not tall.numel() or square == 0.0:
        return square, (0.0,) * count
    if not torch.isfinite(torch.tensor(square)):
        return float("nan"), (float("nan"),) * count
    values = _small(tall) if tall.shape[1] <= SMALL else _iterated(tall, count, start, square)
    sums = torch.cumsum(values[:count], dim=0).clamp_(max=square).tolist()
    return square, tuple(sums + [sums[-1]] * (count - len(sums)))


def product_energies(left: Tensor, right: Tensor, count: int) -> tuple[float, tuple[float, ...]]:
    """As ``leading_energies`` of ``left @ right``, (m, r) times (r, n), without forming it.

    The singular values of the product are those of R_left R_right^T, the triangular factors of both (r, r).
    """
    if not (left.numel() and right.numel()):
        return 0.0, (0.0,) * count
    if not (bool(torch.isfinite(left).all()) and bool(torch.isfinite(right).all())):
        return float("nan"), (float("nan"),) * count
    inner = torch.linalg.qr(left.double(), mode="r").R @ torch.linalg.qr(right.mT.double(), mode="r").R.mT
    return leading_energies(inner, count)


def fixed_start(rows: int) -> Tensor:
    """A full-rank block (rows, BLOCK), fp32, the same on every machine: cosines of incommensurate frequencies."""
    row = torch.arange(1, rows + 1, dtype=torch.float64)[:, None]
    frequency = torch.arange(1, BLOCK + 1, dtype=torch.float64)[None, :].sqrt() * 1.6180339887
    return torch.cos(row * frequency + row.sqrt()).float()


def _small(tall: Tensor) -> Tensor:
    """All squared singular values, descending; by the Gram matrix in fp64."""
    gram = torch.zeros((tall.shape[1],) * 2, dtype=torch.float64)
    for start in range(0, len(tall), 4096):
        wide = tall[start : start + 4096].double()
        gram.addmm_(wide.mT, wide)
    return _descending(gram)


def _descending(gram: Tensor) -> Tensor:
    values: Tensor = torch.linalg.eigvalsh(gram)
    return values.flip(0).clamp_(min=0.0)


def _iterated(tall: Tensor, count: int, start: Tensor | None, square: float) -> Tensor:
    block = (fixed_start(tall.shape[1]) if start is None else start).to(tall.dtype)
    # Scaled, so that the powers below neither overflow nor vanish in fp32.
    scale = square**0.5
    basis = torch.linalg.qr(block).Q
    before = -1.0
    values = torch.zeros(BLOCK, dtype=torch.float64)
    for _ in range(MOST_ITERATIONS):
        image = torch.matmul(tall, basis).div_(scale)
        wide = image.double()
        values = _descending(wide.mT @ wide)
        reached = float(values[:count].sum())
        if reached - before < STANDS_STILL:
            break
        before = reached
        basis = torch.linalg.qr(torch.matmul(tall.mT, image).div_(scale)).Q
    return values * square
