"""The polar factor against a full decomposition in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mergenode.maths.polar import polar_factor


def gaussian(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def literal(matrix: Tensor, rank: int) -> Tensor:
    u, _, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    return u[:, :rank] @ vh[:rank]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(2, 2), (30, 30), (50, 20), (20, 50), (90, 3)])
def test_full_rank(shape: tuple[int, int], dtype: torch.dtype) -> None:
    matrix = gaussian(*shape, dtype=dtype)
    found = polar_factor(matrix)
    k = min(shape)
    assert (found.rank, found.factor.dtype, found.factor.is_contiguous()) == (k, dtype, True)
    bound = 3e-6 if dtype == torch.float32 else 1e-9
    assert float((found.factor.double() - literal(matrix, k)).norm()) < bound * k**0.5
    assert torch.allclose(found.values, torch.linalg.svdvals(matrix.double()), rtol=1e-6)


@pytest.mark.parametrize("shape", [(40, 24), (24, 40)])
def test_directions_that_are_not_there_stay_out(shape: tuple[int, int]) -> None:
    matrix = gaussian(shape[0], 5) @ gaussian(5, shape[1], seed=1)
    found = polar_factor(matrix)
    assert found.rank == 5
    assert float((found.factor.double() - literal(matrix, 5)).norm()) < 1e-5


def test_columns_side_by_side_twice() -> None:
    """A rank-deficient matrix as TSVM meets it: two contributions with the same directions."""
    basis = torch.linalg.qr(gaussian(30, 6).double()).Q.float()
    found = polar_factor(torch.cat([basis, basis], dim=1))
    assert found.rank == 6
    assert torch.allclose(found.factor, torch.cat([basis, basis], dim=1) / 2**0.5, atol=2e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e15])
def test_the_scale_of_the_matrix_does_not_matter(scale: float) -> None:
    matrix = gaussian(30, 20)
    assert torch.allclose(polar_factor(matrix * scale).factor, polar_factor(matrix).factor, atol=2e-6)


def test_nothing_comes_of_nothing_and_inputs_survive() -> None:
    zero = torch.zeros(4, 7)
    found = polar_factor(zero)
    assert (found.rank, found.factor.shape, bool(found.factor.any())) == (0, (4, 7), False)
    matrix = gaussian(20, 30).mT
    copy = matrix.clone()
    polar_factor(matrix)
    assert torch.equal(matrix, copy)
