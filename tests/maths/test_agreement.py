"""Agreement with several matrices, against the demands themselves."""

from __future__ import annotations

import torch

from mergenode.maths.agreement import agreement


def triplets(shape: tuple[int, int], rank: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    matrix = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    return left[:, :rank], values[:rank], right[:rank].T


def joined(parts: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    left, values, right = (torch.cat([part[side] for part in parts], dim=-1) for side in range(3))
    return agreement(left, values, right, [sum(len(s) for _, s, _ in parts[:i]) for i in range(len(parts))])


def test_one_matrix_agrees_with_itself() -> None:
    left, values, right = triplets((12, 20), 5, 0)
    merged = agreement(left, values, right, [0])
    assert torch.allclose(merged, (left * values) @ right.T, atol=1e-12)


def test_what_can_be_met_by_all_is_nearly_met() -> None:
    """Four matrices make 4 * 4^2 demands on 400 elements."""
    parts = [triplets((20, 20), 4, seed) for seed in range(4)]
    merged = joined(parts)
    for left, values, right in parts:
        gap = left.T @ merged @ right - torch.diag(values)
        assert float(gap.norm()) < 0.01 * float(values.norm())


def test_a_matrix_that_nobody_shares_anything_with_comes_out_whole() -> None:
    basis = torch.eye(16, dtype=torch.float64)
    values = torch.tensor([3.0, 2.0], dtype=torch.float64)
    parts = [(basis[:, 2 * i : 2 * i + 2], values, basis[:, 2 * i : 2 * i + 2]) for i in range(8)]
    assert torch.allclose(joined(parts), torch.diag(values.repeat(8)), atol=1e-12)


def test_the_order_of_the_matrices_is_rounding() -> None:
    parts = [triplets((24, 12), rank, rank) for rank in (1, 3, 6)]
    assert torch.allclose(joined(parts), joined(parts[::-1]), atol=1e-8)


def test_inputs_stay_and_the_dtype_follows_them() -> None:
    left, values, right = (part.float() for part in triplets((9, 7), 3, 1))
    copies = [part.clone() for part in (left, values, right)]
    assert agreement(left, values, right, [0, 2]).dtype == torch.float32
    assert all(torch.equal(part, copy) for part, copy in zip((left, values, right), copies, strict=True))
