"""The filtered closed form against the objective it minimises, and its filters against their definitions."""

from __future__ import annotations

from math import ceil, exp

import pytest
import torch
from torch import Tensor

from mergenode.maths import spectral_filter
from mergenode.maths.packed_symmetric import packed
from mergenode.maths.spectral_filter import (
    Filter,
    filtered_solution,
    leading_filter,
    participation,
    smooth_filter,
)

EPS = torch.finfo(torch.float32).eps


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moments(vectors: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    shares = [1 / float(t.square().sum()) for t in vectors]
    gram = sum(w * t.T @ t for w, t in zip(shares, vectors, strict=True))
    cubic = sum(w * t @ t.T @ t for w, t in zip(shares, vectors, strict=True))
    return sum(vectors), cubic, packed(gram)


def everything(values: Tensor, unit: float) -> Filter:
    return Filter(torch.ones_like(values), values.reciprocal())


def nothing(values: Tensor, unit: float) -> Filter:
    return Filter(values[:0], values[:0])


@pytest.mark.parametrize("shape", [(8, 12), (20, 12), (30, 2), (4, 1)])
def test_without_a_filter_it_minimises_the_objective(shape: tuple[int, int]) -> None:
    """Any step away from D G^-1 makes sum w_i ||(M - T_i) T_i^T||^2 larger."""
    vectors = [gaussian(*shape, seed=seed) for seed in range(4)]
    solution = filtered_solution(*moments(vectors), everything)

    def objective(merged: Tensor) -> float:
        return sum(float(((merged - t) @ t.T).square().sum() / t.square().sum()) for t in vectors)

    least = objective(solution)
    assert all(objective(solution + 0.01 * gaussian(*shape, seed=50 + n)) > least for n in range(5))


def test_the_empty_filter_leaves_the_sum() -> None:
    total, cubic, gram = moments([gaussian(8, 12, seed=seed) for seed in range(3)])
    assert torch.equal(filtered_solution(total, cubic, gram, nothing), total)


def test_inputs_survive() -> None:
    inputs = moments([gaussian(8, 12, seed=seed) for seed in range(3)])
    copies = [tensor.clone() for tensor in inputs]
    filtered_solution(*inputs, leading_filter)
    assert all(torch.equal(a, b) for a, b in zip(inputs, copies, strict=True))


def test_rows_are_solved_panel_by_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = moments([gaussian(200, 12, seed=seed) for seed in range(3)])
    whole = filtered_solution(*inputs, leading_filter)
    monkeypatch.setattr(spectral_filter, "panel_rows", lambda columns: 7)
    assert torch.allclose(filtered_solution(*inputs, leading_filter), whole, rtol=1e-12, atol=1e-12)


def test_a_gram_matrix_that_falls_apart() -> None:
    """Diagonal, with repeated and zero eigenvalues: the tridiagonal form splits into blocks."""
    gram = torch.diag(torch.tensor([4.0, 4.0, 4.0, 1.0, 1.0, 0.0, 0.0, 0.0], dtype=torch.float64))
    total, cubic = gaussian(5, 8), gaussian(5, 8, seed=1)
    merged = filtered_solution(
        total, cubic, packed(gram), lambda values, unit: Filter(torch.ones(5), values[:5].reciprocal())
    )
    expected = torch.cat([cubic[:, :3] / 4, cubic[:, 3:5], total[:, 5:]], dim=1)
    assert torch.allclose(merged, expected, atol=1e-12)


@pytest.mark.parametrize("values", [[1.0], [1.0, 1.0, 1.0, 1.0], [9.0, 4.0, 1.0], [1.0, 1e-2, 1e-4]])
def test_participation_counts_equal_directions(values: list[float]) -> None:
    expected = ceil(sum(value**0.5 for value in values) ** 2 / sum(values) - 1e-9)
    assert participation(torch.tensor(values, dtype=torch.float64), EPS) == expected


def test_participation_does_not_count_rounding() -> None:
    real = torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64)
    noise = torch.full((2000,), EPS, dtype=torch.float64)
    assert participation(torch.cat([real, noise]), EPS) == participation(real, EPS) == 3
    assert participation(torch.zeros(4, dtype=torch.float64), EPS) == 0


def test_the_smooth_filter_is_gradient_flow_stopped_in_time() -> None:
    values = torch.tensor([2.0, 0.1, 1e-5, 0.0], dtype=torch.float64)
    found = smooth_filter(values, EPS, time=1300.0, ratio=0.75)
    assert found.removed.tolist() == pytest.approx([1 - exp(-1300 * value) for value in (2.0, 0.1, 1e-5)])
    assert found.solved.tolist() == pytest.approx([0.5, 10.0, (1 - exp(-0.013)) * 1e5])
    last = smooth_filter(values, EPS, time=1300.0, ratio=1.0).solved[-1]
    assert float(last) == pytest.approx((1 - exp(-1.3e-5)) * 1e8)
