"""Subspaces come with a certificate; when it fails, a singular value decomposition takes over."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import LinAlgError

from mergenode.maths import subspaces
from mergenode.maths.subspaces import is_orthonormal, leading_subspaces


def matrix(m: int = 80, n: int = 50, seed: int = 0) -> torch.Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed))


def projector_error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found.double() @ found.double().mT - exact @ exact.mT).abs().max())


@pytest.mark.parametrize("count", [0, 1, 20, 50])
def test_leading_pairs_of_a_tall_matrix(count: int) -> None:
    tall = matrix()
    found = leading_subspaces(tall, lambda values: count)
    left, values, right_t = np.linalg.svd(tall.double().numpy(), full_matrices=False)
    assert not found.fallback
    assert torch.allclose(found.values, torch.from_numpy(values), rtol=1e-9)
    assert projector_error(found.left, torch.from_numpy(left[:, :count])) < 5e-7
    assert projector_error(found.right, torch.from_numpy(right_t[:count].T)) < 5e-7
    rebuilt = (found.left * found.values[:count].float()) @ found.right.mT
    best = (left[:, :count] * values[:count]) @ right_t[:count]
    assert np.abs(rebuilt.numpy() - best).max() < 5e-6


def test_small_singular_values_keep_their_left_vectors() -> None:
    """Left vectors are divided by the singular value: six orders of magnitude must not show."""
    generator = np.random.default_rng(0)
    left = np.linalg.qr(generator.standard_normal((90, 40)))[0]
    right = np.linalg.qr(generator.standard_normal((40, 40)))[0]
    tall = torch.from_numpy((left * 10.0 ** -np.linspace(0, 5, 40)) @ right.T).float()
    found = leading_subspaces(tall, lambda values: 36)
    assert not found.fallback
    assert is_orthonormal(found.left)


def test_a_failed_certificate_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = leading_subspaces(matrix(), lambda values: 15)
    monkeypatch.setattr(subspaces, "CERTIFICATE", -1.0)
    found = leading_subspaces(matrix(), lambda values: 15)
    assert found.fallback
    assert projector_error(found.left, expected.left.double()) < 2e-5
    assert projector_error(found.right, expected.right.double()) < 2e-5


def test_an_iteration_that_does_not_converge_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(tall: torch.Tensor) -> None:
        raise LinAlgError("no convergence")

    monkeypatch.setattr(subspaces, "gram_spectrum", refuse)
    found = leading_subspaces(matrix(), lambda values: 7)
    assert found.fallback
    assert is_orthonormal(found.left)
    assert is_orthonormal(found.right)


def test_certificate_sees_one_wrong_column() -> None:
    columns = torch.linalg.qr(matrix())[0]
    assert is_orthonormal(columns)
    for defect in (1e-4, 1.0):
        damaged = columns.clone()
        damaged[:, 3] *= 1 + defect
        assert not is_orthonormal(damaged)
    damaged = columns.clone()
    damaged[:, 4] = damaged[:, 5]
    assert not is_orthonormal(damaged)


def test_the_input_stays_as_it_was() -> None:
    tall = matrix()
    before = tall.clone()
    leading_subspaces(tall, lambda values: 10)
    assert torch.equal(tall, before)
