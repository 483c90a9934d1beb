"""Leading left and right singular subspaces of a matrix, with a certificate.

From V (eigenvectors of the Gram matrix) and U = A V / s both orthonormal it follows that V^T (A^T A) V =
diag(s^2), so V attains the sum of the largest eigenvalues and spans the leading subspace (Ky Fan). Checking
that both are orthonormal therefore certifies the whole decomposition, at the price of a few matrix-vector
products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from scipy.linalg import LinAlgError, svd
from torch import Tensor

from mergenode.maths.gram import gram_spectrum, panel_rows

CERTIFICATE = 3e-6
"""Largest accepted |Q^T Q x - x| / |x|. Rounding Q to fp32 alone gives about 2e-7."""

PROBES = 3
"""Random vectors per certificate. One that misses a defect of relative size 1 is a 1-in-1e5 event already."""


class Subspaces(NamedTuple):
    """``count`` leading singular pairs of a tall matrix A (m, n) and all its singular values.

    left: (m, count), right: (n, count), orthonormal columns, dtype of A. values: (n,), fp64, descending, on
    the CPU. fallback: True when they come from a singular value decomposition in the dtype of A.
    """

    left: Tensor
    right: Tensor
    values: Tensor
    fallback: bool


def leading_subspaces(tall: Tensor, count: Callable[[Tensor], int]) -> Subspaces:
    """Leading singular pairs of ``tall`` (m, n), m >= n, finite, not zero; ``count(values)`` says how many.

    A pair whose singular value is zero cannot be had: ``count`` has to stay below the numerical rank. Error
    of the subspaces against exact arithmetic: about 1e-7 (fp32); 1e-5 after the fallback.

    Raises:
        LinAlgError: neither way converged.
    """
    try:
        found = _from_gram(tall, count)
    except LinAlgError:
        return _from_svd(tall, count)
    if is_orthonormal(found.left) and is_orthonormal(found.right):
        return found
    return _from_svd(tall, count)


def is_orthonormal(columns: Tensor) -> bool:
    """Whether a few deterministic probes x, shape (k,), come back from Q^T Q within ``CERTIFICATE``."""
    k = columns.shape[1]
    if k == 0:
        return True
    generator = torch.Generator().manual_seed(k)
    probes = torch.randn((k, PROBES), dtype=torch.float64, generator=generator)
    x = probes.to(device=columns.device, dtype=columns.dtype)
    error = torch.linalg.vector_norm(columns.mT @ (columns @ x) - x, dim=0)
    return bool((error <= CERTIFICATE * torch.linalg.vector_norm(x, dim=0)).all())


def _from_gram(tall: Tensor, count: Callable[[Tensor], int]) -> Subspaces:
    spectrum = gram_spectrum(tall)
    values = spectrum.eigenvalues.sqrt()
    on_host = values.cpu()
    wide = spectrum.leading_vectors(count(on_host))
    del spectrum  # n x n fp64, not needed below
    left = _left_vectors(tall, wide, values[: wide.shape[1]])
    return Subspaces(left, wide.to(tall.dtype), on_host, False)


def _left_vectors(tall: Tensor, right: Tensor, values: Tensor) -> Tensor:
    """``tall @ right / values`` in fp64, panel by panel, rounded once: (m, k), dtype of ``tall``."""
    m, k = tall.shape[0], right.shape[1]
    left = torch.empty((m, k), dtype=tall.dtype, device=tall.device)
    rows = panel_rows(tall.shape[1])
    for start in range(0, m, rows):
        product = tall[start : start + rows].to(torch.float64) @ right
        left[start : start + rows] = product.div_(values)
    return left


def _from_svd(tall: Tensor, count: Callable[[Tensor], int]) -> Subspaces:
    """Thin singular value decomposition by QR iteration: slow, but with the smallest workspace of all
    drivers."""
    if tall.device.type == "cpu":
        u, s, vh = svd(tall.numpy(), full_matrices=False, check_finite=False, lapack_driver="gesvd")
        left, values, right_t = torch.from_numpy(u), torch.from_numpy(s), torch.from_numpy(vh)
    else:
        left, values, right_t = torch.linalg.svd(tall, full_matrices=False)
    on_host = values.to(device="cpu", dtype=torch.float64)
    k = count(on_host)
    return Subspaces(left[:, :k].contiguous(), right_t[:k].mT.contiguous(), on_host, True)
