"""The Gram matrix of a tall matrix and its spectrum, in fp64, without an fp64 copy of the matrix.

Squaring halves the digits, so everything on the n x n side is fp64: an fp32 Gram matrix would put errors of
1e-3 into the leading subspace. On a CPU the eigenvalues come first (tridiagonal reduction, then the
root-free QR iteration), and only as many eigenvectors as the caller asks for afterwards: the expensive part
of a full eigendecomposition is skipped.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from torch import Tensor

from mergenode.maths.lapack import (
    add_gram_lower,
    inverse_iteration,
    reduce_to_tridiagonal,
    tridiagonal_eigenvalues,
    tridiagonal_eigenvectors,
)
from mergenode.maths.packed_symmetric import order_of, wide_lower

PANEL_ELEMENTS = 1 << 18
"""Elements of one fp64 row panel (2 MiB)."""

REFLECTOR_BLOCK = 48
"""Householder vectors that are applied together."""

CLUSTER_GAP = 1e-6
"""Eigenvalues closer than this share of the largest are orthogonalised against each other in inverse
iteration.

Wider gaps need no help: the vectors come out orthogonal to about machine epsilon over the gap, 1e-10 here."""


def panel_rows(columns: int) -> int:
    """Rows of a panel: about ``PANEL_ELEMENTS`` elements, at least 64 rows, so that BLAS stays at full
    speed."""
    return max(64, PANEL_ELEMENTS // max(columns, 1))


class Spectrum(Protocol):
    """Eigenvalues of a Gram matrix (shape (n,), fp64, descending, clipped at 0) and its leading
    eigenvectors."""

    @property
    def eigenvalues(self) -> Tensor: ...

    def leading_vectors(self, count: int) -> Tensor:
        """Orthonormal eigenvectors of the ``count`` largest eigenvalues: (n, count), fp64, in their order.

        Raises:
            LinAlgError: the iteration did not converge.
        """
        ...


class DenseSpectrum(NamedTuple):
    """A complete eigendecomposition, in descending order."""

    eigenvalues: Tensor
    vectors: Tensor

    def leading_vectors(self, count: int) -> Tensor:
        return self.vectors[:, :count]


class TridiagonalSpectrum(NamedTuple):
    """G = Q T Q^T with T tridiagonal; Q is kept as the Householder vectors below the diagonal of
    ``reflectors``."""

    eigenvalues: Tensor
    diagonal: NDArray[np.float64]
    off_diagonal: NDArray[np.float64]
    reflectors: NDArray[np.float64]
    scales: NDArray[np.float64]

    def leading_vectors(self, count: int) -> Tensor:
        n = len(self.diagonal)
        if count == 0:
            return torch.empty((n, 0), dtype=torch.float64)
        few = 2 * count <= n
        vectors = self._by_inverse_iteration(count) if few else self._by_robust_representations(count)
        found = torch.from_numpy(vectors)
        self._turn_back(found)
        _reverse_columns(found)
        return found

    def _turn_back(self, vectors: Tensor) -> None:
        """vectors = Q vectors, in place. Q leaves the first coordinate alone; its reflectors act on the
        others.

        Reflectors are applied a block at a time in the compact form I - W T W^T (Schreiber and Van Loan
        1989) with T^-1 = diag(1 / scale) + striu(W^T W). LAPACK's own routine would need a copy of the
        reflectors here.
        """
        lower, scales = torch.from_numpy(self.reflectors)[1:, :-1], torch.from_numpy(self.scales)
        moved = vectors[1:]
        for start in reversed(range(0, len(scales), REFLECTOR_BLOCK)):
            scale = scales[start : start + REFLECTOR_BLOCK]
            block = lower[start:, start : start + len(scale)].tril(-1)
            block.diagonal().fill_(1.0)
            block *= scale != 0  # LAPACK's way to say that nothing had to be reflected
            inverse = (block.mT @ block).triu_(1)
            inverse.diagonal().copy_(torch.where(scale != 0, scale, 1.0).reciprocal_())
            inner = torch.linalg.solve_triangular(inverse, block.mT @ moved[start:], upper=True)
            moved[start:].addmm_(block, inner, alpha=-1)

    def _by_inverse_iteration(self, count: int) -> NDArray[np.float64]:
        """Ascending order, Fortran layout. Cost 100 n flops per vector, little more for small clusters."""
        values = self.eigenvalues[:count].flip(0).numpy()
        far = np.flatnonzero(np.diff(values) > CLUSTER_GAP * values[-1]) + 1
        return inverse_iteration(self.diagonal, self.off_diagonal, values, [0, *far.tolist(), count])

    def _by_robust_representations(self, count: int) -> NDArray[np.float64]:
        """Ascending order, Fortran layout. Computes all n vectors: with many wanted that is the faster
        way."""
        return tridiagonal_eigenvectors(self.diagonal, self.off_diagonal)[:, len(self.diagonal) - count :]


def _reverse_columns(matrix: Tensor) -> None:
    """In place, a block at a time: a copy would be the largest temporary of the whole projection."""
    count = matrix.shape[1]
    for start in range(0, count // 2, REFLECTOR_BLOCK):
        stop = min(start + REFLECTOR_BLOCK, count // 2)
        front, back = matrix[:, start:stop], matrix[:, count - stop : count - start]
        saved = front.flip(1)
        front.copy_(back.flip(1))
        back.copy_(saved)


def gram_spectrum(tall: Tensor) -> Spectrum:
    """Spectrum of ``tall^T tall`` for ``tall`` of shape (m, n), m >= n, any strides, finite, on any device.

    Memory beyond the result: one fp64 panel. The result holds n x n fp64.

    Raises:
        LinAlgError: LAPACK did not converge.
    """
    if tall.device.type == "cpu" and tall.shape[1] > 2:
        return _tridiagonal_spectrum(_gram_lower(tall))
    values, vectors = torch.linalg.eigh(_gram(tall))
    return DenseSpectrum(values.flip(0).clamp_(min=0.0), vectors.flip(1))


def symmetric_spectrum(packed: Tensor) -> Spectrum:
    """Spectrum of a positive semidefinite matrix (n, n), ``packed``, finite, any device.

    Memory: one fp64 copy of the whole matrix, which the result holds.

    Raises:
        LinAlgError: LAPACK did not converge.
    """
    if packed.device.type == "cpu" and order_of(packed) > 2:
        return _tridiagonal_spectrum(wide_lower(packed))
    return dense_spectrum(packed)


def dense_spectrum(packed: Tensor) -> DenseSpectrum:
    """The same by QR iteration, complete: much slower, with nothing left to go wrong. Memory: twice the result.

    Raises:
        LinAlgError: LAPACK did not converge.
    """
    lower = wide_lower(packed.cpu())
    values, vectors = eigh(lower, overwrite_a=True, check_finite=False, driver="ev")
    descending = torch.from_numpy(values[::-1].copy()).clamp_(min=0.0)
    return DenseSpectrum(descending.to(packed.device), torch.from_numpy(vectors).flip(1).to(packed.device))


def _gram(tall: Tensor) -> Tensor:
    m, n = tall.shape
    gram = torch.zeros((n, n), dtype=torch.float64, device=tall.device)
    for start in range(0, m, panel_rows(n)):
        panel = tall[start : start + panel_rows(n)].to(torch.float64)
        gram.addmm_(panel.mT, panel)
    return gram


def _gram_lower(tall: Tensor) -> NDArray[np.float64]:
    """Lower triangle of the Gram matrix, Fortran layout; a symmetric update costs half of a product."""
    m, n = tall.shape
    rows = min(panel_rows(n), m)
    gram = np.zeros((n, n), order="F")
    buffer = torch.empty((rows, n), dtype=torch.float64)
    for start in range(0, m, rows):
        panel = buffer[: min(rows, m - start)].copy_(tall[start : start + rows])
        add_gram_lower(gram, panel.numpy().T)
    return gram


def _tridiagonal_spectrum(gram_lower: NDArray[np.float64]) -> TridiagonalSpectrum:
    """Takes ownership of ``gram_lower``: the reflectors are written over it."""
    diagonal, off_diagonal, scales = reduce_to_tridiagonal(gram_lower)
    values = tridiagonal_eigenvalues(diagonal, off_diagonal)
    descending = torch.from_numpy(values[::-1].copy()).clamp_(min=0.0)
    return TridiagonalSpectrum(descending, diagonal, off_diagonal, gram_lower, scales)
