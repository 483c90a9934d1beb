"""Norms agree with exact rational arithmetic and do not care how a tensor is cut."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.maths.norms import CHUNK, exact_total, inner, squared_norm


def exact_inner(left: torch.Tensor, right: torch.Tensor) -> Fraction:
    pairs = zip(left.double().flatten().tolist(), right.double().flatten().tolist(), strict=True)
    return sum((Fraction(x) * Fraction(y) for x, y in pairs), Fraction(0))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(width=32, allow_nan=False, min_value=-(2.0**60), max_value=2.0**60), max_size=60))
def test_squared_norm_is_exact_to_fp64(values: list[float]) -> None:
    tensor = torch.tensor(values, dtype=torch.float32)
    exact = exact_inner(tensor, tensor)
    assert abs(Fraction(squared_norm(tensor)) - exact) <= exact * Fraction(1, 10**12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_inner_product_of_every_dtype(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(37, 11, generator=generator).to(dtype)
    y = torch.randn(37, 11, generator=generator).to(dtype)
    assert inner(x, y) == pytest.approx(float(exact_inner(x, y)), rel=1e-12, abs=1e-12)


def test_more_than_one_chunk_adds_up_exactly() -> None:
    ones = torch.ones(2 * CHUNK + 3)
    ones[-1] = 3.0
    assert squared_norm(ones) == 2 * CHUNK + 2 + 9
    assert inner(ones, -ones) == -squared_norm(ones)


def test_small_values_next_to_large_ones_are_not_lost() -> None:
    """An fp32 accumulation would return exactly 1e8 here."""
    tensor = torch.full((CHUNK + 1,), 1e-2)
    tensor[0] = 1e4
    small = Fraction(float(tensor[1])) ** 2 * CHUNK
    assert squared_norm(tensor) == pytest.approx(float(Fraction(10**8) + small), rel=1e-12)


def test_layout_does_not_matter() -> None:
    matrix = torch.randn(300, 70, generator=torch.Generator().manual_seed(2))
    assert squared_norm(matrix.mT) == pytest.approx(squared_norm(matrix), rel=1e-12)
    assert inner(matrix.mT, matrix.mT.contiguous()) == squared_norm(matrix.mT)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0)])
def test_scalars_and_empty_tensors(shape: tuple[int, ...]) -> None:
    tensor = torch.full(shape, 2.0)
    assert squared_norm(tensor) == 4.0 * tensor.numel()
    assert inner(tensor, tensor.clone()) == 4.0 * tensor.numel()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_show_in_the_norm(bad: float) -> None:
    tensor = torch.ones(CHUNK + 5)
    tensor[CHUNK] = bad
    assert not squared_norm(tensor) < float("inf")


def test_infinities_of_both_signs_do_not_raise() -> None:
    tensor = torch.zeros(CHUNK + 1)
    tensor[0], tensor[-1] = float("inf"), -float("inf")
    total = inner(tensor, torch.ones_like(tensor))
    assert total != total


def test_total_beyond_fp64_is_infinite() -> None:
    assert exact_total([1e308, 1e308]) == float("inf")


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(3, 2\)"):
        inner(torch.ones(2, 3), torch.ones(3, 2))
