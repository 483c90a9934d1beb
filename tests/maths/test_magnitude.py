"""The k-th largest magnitude against sorting."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mergenode.maths.magnitude import SAMPLE, Pieces, _bracket, kth_largest_magnitude, kth_largest_of, pieces_of
from mergenode.maths.norms import CHUNK

SIZE = 4 * SAMPLE + 21


def by_sorting(tensor: Tensor, k: int) -> float:
    return float(tensor.flatten().abs().sort(descending=True).values[k - 1])


def _hidden_from_the_sample(values: Tensor) -> Tensor:
    """What the sample looks at is of another size than the rest."""

    def read(start: int, stop: int) -> Tensor:
        seen[start:stop] = True
        return torch.ones(stop - start)

    seen = torch.zeros(len(values), dtype=torch.bool)
    _bracket(Pieces(read, [(0, len(values))]), 1)
    assert SAMPLE // 2 < int(seen.sum()) <= SAMPLE
    values[seen] *= 1000
    return values


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
        "rows of their own size": normal * torch.arange(SIZE).div(500).floor().remainder(9).exp(),
        "misleading": _hidden_from_the_sample(normal.clone()),
        "misleading double": _hidden_from_the_sample(normal.double()),
    }[kind]


KINDS = ["normal", "double", "coarse", "mostly zero", "all equal", "heavy tail", "sorted", "periodic", "tiny"]
KINDS += ["rows of their own size"]
KINDS += ["misleading", "misleading double"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0, 0.001, 0.2, 0.5, 0.999, 1.0])
def test_it_is_what_sorting_finds(kind: str, share: float) -> None:
    tensor = draw(kind, 1)
    k = max(1, round(share * tensor.numel()))
    assert kth_largest_magnitude(tensor, k) == by_sorting(tensor, k)


@pytest.mark.parametrize("kind", ["normal", "double", "coarse", "sorted", "rows of their own size", "misleading"])
def test_pieces_are_enough(kind: str) -> None:
    """Read like a file: nobody sees more than a small part of the tensor at a time, and nothing of it is changed."""
    tensor = draw(kind, 2)
    before, longest = tensor.clone(), 0

    def read(start: int, stop: int) -> Tensor:
        nonlocal longest
        longest = max(longest, stop - start)
        return tensor[start:stop]

    k = SIZE // 5
    assert kth_largest_of(Pieces(read, pieces_of(tensor).bounds), k) == by_sorting(tensor, k)
    assert longest <= CHUNK < SIZE and torch.equal(tensor, before)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("size", [1000, SIZE])
def test_what_is_not_finite_gets_some_answer(bad: float, size: int) -> None:
    tensor = draw("normal", 3)[:size]
    tensor[size // 2 :] = bad
    for k in (1, size // 5, size):
        kth_largest_magnitude(tensor, k)


@given(values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1), data=st.data())
@settings(max_examples=50, deadline=None)
def test_small_tensors(values: list[float], data: st.DataObject) -> None:
    tensor, k = torch.tensor(values), data.draw(st.integers(1, len(values)))
    assert kth_largest_magnitude(tensor, k) == by_sorting(tensor, k)


@pytest.mark.parametrize("k", [0, 4, -1])
def test_there_is_no_such_element(k: int) -> None:
    with pytest.raises(ValueError, match="of 3 magnitudes"):
        kth_largest_magnitude(torch.ones(3), k)
