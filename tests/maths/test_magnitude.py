"""The k-th largest magnitude against sorting."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mergenode.maths.magnitude import CROWD, SAMPLE, kth_largest_magnitude

SIZE = 9 * SAMPLE + 1234


def by_sorting(tensor: Tensor, k: int) -> float:
    return float(tensor.flatten().abs().sort(descending=True).values[k - 1])


def draw(kind: str, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(SIZE, generator=generator)
    return {
        "normal": normal,
        "double": normal.double(),
        "coarse": normal.mul(4).round().div(4),  # few distinct values, as differences of bf16 weights are
        "mostly zero": normal * (torch.rand(SIZE, generator=generator) < 0.1),
        "all equal": torch.full((SIZE,), -0.25),
        "heavy tail": normal.pow(7),
        "sorted": normal.sort().values,
        "periodic": normal[:97].repeat(SIZE // 97 + 1)[:SIZE],
        "tiny": normal * 1e-40,
        "one column matters": torch.cat([torch.zeros(SIZE - SIZE % 64).view(-1, 64).fill_diagonal_(1).flatten()]),
    }[kind]


KINDS = ["normal", "double", "coarse", "mostly zero", "all equal", "heavy tail", "sorted", "periodic", "tiny"]


@pytest.mark.parametrize("kind", [*KINDS, "one column matters"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.2, 0.5, 0.999, 1.0])
def test_it_is_what_sorting_finds(kind: str, share: float) -> None:
    tensor = draw(kind, 1)
    k = max(1, round(share * tensor.numel()))
    assert kth_largest_magnitude(tensor, k) == by_sorting(tensor, k)


@given(values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1), data=st.data())
@settings(max_examples=50, deadline=None)
def test_small_tensors(values: list[float], data: st.DataObject) -> None:
    tensor, k = torch.tensor(values), data.draw(st.integers(1, len(values)))
    assert kth_largest_magnitude(tensor, k) == by_sorting(tensor, k)


def test_a_bracket_that_misses_is_noticed() -> None:
    """The sample sees zeros only; the answer is not among them."""
    tensor = torch.zeros(SIZE)
    stride = SIZE // SAMPLE | 1
    hidden = torch.arange(SIZE) % stride != 0
    tensor[hidden] = torch.randn(int(hidden.sum()), generator=torch.Generator().manual_seed(2))
    for k in (1, 1000, SIZE // CROWD, SIZE // 2, SIZE):
        assert kth_largest_magnitude(tensor, k) == by_sorting(tensor, k)


@pytest.mark.parametrize("k", [0, 4, -1])
def test_there_is_no_such_element(k: int) -> None:
    with pytest.raises(ValueError, match="of 3 magnitudes"):
        kth_largest_magnitude(torch.ones(3), k)
