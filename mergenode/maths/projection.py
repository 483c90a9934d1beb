"""What of a new task vector does not collide with the running merge: the projections of OPCM.

Notation of one linear weight: A (m, n) the running merge, B (m, n) the new task vector, A = U diag(s) V^T
its thin singular value decomposition, C = U^T B V the coefficients of B. A projection sets some coefficients
to zero:

================  ===========================================  =====================================
variant           coefficients set to zero                     source
================  ===========================================  =====================================
block             i < r and j < r                              the authors' released code
block_orthogonal  as block, then minus the multiple of A left  this project: keeps <A, P> = 0
diagonal          i < r and j < r, and i = j                   FusionBench since 2025-03
paper             i < r' or j < r', and i = j                  arXiv 2501.09522, P_alpha
================  ===========================================  =====================================

r and r' are ``leading_rank`` and ``covering_rank`` of s. Everything outside the zeroed set passes unchanged,
so only thin factors are needed: the m x m basis is never formed. The work is done on the smaller Gram side.

``block`` and ``block_orthogonal`` are well conditioned: two runs that differ by 1e-12 stay that close.
``diagonal`` and ``paper`` depend on individual singular vectors, which rounding turns freely inside the bulk
of a spectrum; pairs below the numerical rank are arbitrary and are therefore not paired at all (their
coefficients pass).
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import torch
from torch import Tensor

from mergenode.maths.gram import PANEL_ELEMENTS, REFLECTOR_BLOCK
from mergenode.maths.norms import inner, squared_norm
from mergenode.maths.rank import check_alpha, covering_rank, effective_rank, leading_rank, numerical_rank
from mergenode.maths.subspaces import Subspaces, leading_subspaces


class Variant(StrEnum):
    """Which coefficients are set to zero; see the module."""

    BLOCK = "block"
    BLOCK_ORTHOGONAL = "block_orthogonal"
    DIAGONAL = "diagonal"
    PAPER = "paper"


class Projection(NamedTuple):
    """``kept``: (m, n), dtype of the delta, a new tensor owned by the caller, row-major.

    rank: r or r'; effective_rank: of the accumulator; fallback: whether the certificate failed and a
    singular value decomposition was used instead.
    """

    kept: Tensor
    rank: int
    effective_rank: float
    fallback: bool


def project(accumulator: Tensor, delta: Tensor, *, alpha: float, variant: Variant) -> Projection:
    """The part of ``delta`` (m, n) that enters a merge whose running sum is ``accumulator`` (m, n), same
    dtype.

    Error against exact arithmetic: below 1e-6 of ||delta|| in fp32. A zero accumulator lets everything pass.
    Inputs are finite and never modified. The scale of the accumulator does not matter, nor does that of
    delta. Peak memory beyond inputs and result: ``working_bytes(m, n, itemsize)``.

    Raises:
        ValueError: alpha outside [0, 1), or shapes that differ.
        LinAlgError: the accumulator has no decomposition (it is not finite).
    """
    check_alpha(alpha)
    if accumulator.ndim != 2 or accumulator.shape != delta.shape:
        raise ValueError(f"projection of {tuple(delta.shape)} against {tuple(accumulator.shape)}")
    if not bool(accumulator.any()):
        return Projection(delta.clone(memory_format=torch.contiguous_format), 0, 0.0, False)
    kept = delta.clone(memory_format=torch.contiguous_format)
    wide = accumulator.shape[0] < accumulator.shape[1]
    tall, tall_delta = (accumulator.mT, delta.mT) if wide else (accumulator, delta)
    tall_kept = kept.mT if wide else kept  # a view: what is subtracted from it leaves ``kept``
    found, rank = _decompose(tall, alpha, variant)
    if variant is Variant.PAPER:
        _remove_rows_and_columns(tall_kept, found, rank)
    else:
        _remove_block(tall_kept, tall_delta, found, rank)
    if variant in (Variant.DIAGONAL, Variant.PAPER):
        _remove_diagonal(tall_kept, tall_delta, found, rank)
    if variant is Variant.BLOCK_ORTHOGONAL:
        _remove_multiple(kept, accumulator)
    return Projection(kept, rank, effective_rank(found.values), found.fallback)


def working_bytes(m: int, n: int, itemsize: int) -> int:
    """Upper bound of the bytes that ``project`` has allocated at any time beyond its inputs and its result.

    With k = min(m, n) and l = max(m, n), one after the other: reflectors and eigenvectors, 2 k^2 fp64; the
    eigenvectors and both thin factors; the thin factors and one product, or the copy, the factors and the
    workspace of the fallback. Plus panels and column blocks.
    """
    short, long = min(m, n), max(m, n)
    square, thin = 8 * short * short, itemsize * long * short
    panels = 3 * 8 * max(64 * short, PANEL_ELEMENTS) + 3 * 8 * REFLECTOR_BLOCK * short + (4 << 20)
    return max(2 * square, square + thin + thin, 3 * thin + square // 2) + panels


def _decompose(tall: Tensor, alpha: float, variant: Variant) -> tuple[Subspaces, int]:
    rule = covering_rank if variant is Variant.PAPER else leading_rank
    paired = variant in (Variant.DIAGONAL, Variant.PAPER)

    def count(values: Tensor) -> int:
        supported = numerical_rank(values, tall.shape, tall.dtype)
        return supported if paired else min(rule(values, alpha), supported)

    found = leading_subspaces(tall, count)
    return found, min(rule(found.values, alpha), found.left.shape[1])


def _remove_block(kept: Tensor, delta: Tensor, found: Subspaces, rank: int) -> None:
    """kept -= U1 (U1^T B V1) V1^T, the leading ``rank`` pairs."""
    if rank == 0:
        return
    left, right = found.left[:, :rank], found.right[:, :rank]
    coefficients = (left.mT @ delta) @ right
    kept.addmm_(left, coefficients @ right.mT, alpha=-1)


def _remove_rows_and_columns(kept: Tensor, found: Subspaces, rank: int) -> None:
    """kept = (I - U1 U1^T) kept (I - V1 V1^T), the leading ``rank`` pairs."""
    left, right = found.left[:, :rank], found.right[:, :rank]
    kept.addmm_(left, left.mT @ kept, alpha=-1)
    kept.addmm_(kept @ right, right.mT, alpha=-1)


def _remove_diagonal(kept: Tensor, delta: Tensor, found: Subspaces, rank: int) -> None:
    """kept -= sum over the pairs i >= rank of (u_i^T B v_i) u_i v_i^T."""
    left, right = found.left[:, rank:], found.right[:, rank:]
    if left.shape[1] == 0:
        return
    product = delta @ right
    product.mul_(left)
    coefficients = product.sum(dim=0, dtype=torch.float64).to(delta.dtype)
    torch.mul(left, coefficients, out=product)
    kept.addmm_(product, right.mT, alpha=-1)


def _remove_multiple(kept: Tensor, accumulator: Tensor) -> None:
    """kept -= (<A, kept> / <A, A>) A, so that <A, kept> = 0."""
    kept.sub_(accumulator, alpha=inner(accumulator, kept) / squared_norm(accumulator))
