"""The spectrum of a Gram matrix against numpy's dense decomposition, for friendly and hostile spectra."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mergenode.maths.gram import DenseSpectrum, gram_spectrum


def with_values(m: int, n: int, values: np.ndarray, seed: int = 0) -> torch.Tensor:
    """A float64 matrix (m, n) with these singular values and random singular vectors."""
    generator = np.random.default_rng(seed)
    left = np.linalg.qr(generator.standard_normal((m, n)))[0]
    right = np.linalg.qr(generator.standard_normal((n, n)))[0]
    return torch.from_numpy((left * values) @ right.T)


SPECTRA = {
    "random": np.sort(np.random.default_rng(1).random(60))[::-1],
    "steep": 10.0 ** -np.linspace(0, 6, 60),
    "equal": np.ones(60),
    "low rank": np.concatenate([np.linspace(2, 1, 8), np.zeros(52)]),
    "clusters": np.repeat([4.0, 2.0, 1.0], 20),
    "one direction": np.concatenate([[1.0], np.zeros(59)]),
}


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("count", [1, 8, 25, 31, 60])
def test_leading_vectors_are_orthonormal_eigenvectors(name: str, count: int) -> None:
    matrix = with_values(90, 60, SPECTRA[name])
    spectrum = gram_spectrum(matrix)
    vectors = spectrum.leading_vectors(count)
    gram = matrix.mT @ matrix
    assert vectors.shape == (60, count)
    assert (vectors.mT @ vectors - torch.eye(count)).abs().max() < 1e-9
    residual = gram @ vectors - vectors * spectrum.eigenvalues[:count]
    assert residual.abs().max() < 1e-12 * gram.abs().max() * 60


@pytest.mark.parametrize("name", SPECTRA)
def test_eigenvalues_descend_and_are_the_squared_singular_values(name: str) -> None:
    matrix = with_values(90, 60, SPECTRA[name])
    values = gram_spectrum(matrix).eigenvalues
    assert (values[:-1] >= values[1:]).all()
    assert (values >= 0).all()
    expected = torch.linalg.svdvals(matrix).square()
    assert (values - expected).abs().max() < 1e-12 * expected[0]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_smallest_matrices(n: int) -> None:
    matrix = torch.randn(5, n, generator=torch.Generator().manual_seed(n))
    spectrum = gram_spectrum(matrix)
    vectors = spectrum.leading_vectors(n)
    assert torch.allclose((vectors * spectrum.eigenvalues) @ vectors.mT, (matrix.mT @ matrix).double(), atol=1e-5)
    assert spectrum.leading_vectors(0).shape == (n, 0)


def test_both_routes_agree() -> None:
    matrix = with_values(90, 60, SPECTRA["random"])
    values, vectors = torch.linalg.eigh(matrix.mT @ matrix)
    dense = DenseSpectrum(values.flip(0), vectors.flip(1))
    fast = gram_spectrum(matrix)
    assert torch.allclose(fast.eigenvalues, dense.eigenvalues, atol=1e-13)
    for count in (10, 50):
        ours, theirs = fast.leading_vectors(count), dense.leading_vectors(count)
        assert torch.allclose(ours @ ours.mT, theirs @ theirs.mT, atol=1e-9)


def test_panels_and_strides_do_not_change_the_answer() -> None:
    """Enough rows for several panels, as a transposed view of a wide matrix."""
    wide = torch.randn(40, 9000, generator=torch.Generator().manual_seed(3))
    expected = torch.linalg.svdvals(wide.double()).square()
    values = gram_spectrum(wide.mT).eigenvalues
    assert (values - expected).abs().max() < 1e-12 * expected[0]
    assert torch.equal(values, gram_spectrum(wide.mT.contiguous()).eigenvalues)
