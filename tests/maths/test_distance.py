"""Squared distances: against float64, for tensors that lie close together and for any."""

from __future__ import annotations

from math import inf

import pytest
import torch

from mergenode.maths.distance import squared_distance
from tests.support.method_runs import weight


@pytest.mark.parametrize(("dtype", "near", "rel"), [
    (torch.float32, 2e-3, 1e-10), (torch.float32, 3.0, 1e-7), (torch.float64, 2e-3, 1e-12),
    (torch.bfloat16, 2e-2, 1e-12),
])  # fmt: skip
def test_against_float64(dtype: torch.dtype, near: float, rel: float) -> None:
    left = weight(700, 401, seed=1, dtype=dtype)
    right = (left.double() + near * weight(700, 401, seed=2).double() * left.double().abs()).to(dtype)
    expected = float((left.double() - right.double()).square().sum())
    assert squared_distance(left, right) == pytest.approx(expected, rel=rel)
    assert squared_distance(right, left) == squared_distance(left, right)


def test_small_large_and_no_numbers() -> None:
    tensor = weight(5, 7, seed=3)
    assert squared_distance(tensor, tensor) == 0.0
    assert squared_distance(torch.tensor(3.0), torch.tensor(1.0)) == 4.0
    assert squared_distance(torch.tensor([inf]), torch.tensor([0.0])) == inf
    assert squared_distance(torch.empty(0, 3), torch.empty(0, 3)) == 0.0
    assert squared_distance(torch.tensor([3e30]), torch.tensor([-3e30])) == pytest.approx(3.6e61, rel=1e-6)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes"):
        squared_distance(torch.zeros(3), torch.zeros(1))
