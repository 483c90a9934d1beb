"""The mass of a change that goes against another one, against a loop."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.maths.norms import CHUNK
from mergenode.maths.opposing_signs import STRIDE, opposing_mass, sampled

VALUES = st.sampled_from([-2.0, -0.5, -0.0, 0.0, 0.25, 3.0])


def looped(delta: list[float], merge: list[float]) -> tuple[float, float]:
    against = sum(abs(d) for d, m in zip(delta, merge, strict=True) if d * m < 0)
    return against, sum(abs(d) for d, m in zip(delta, merge, strict=True) if m != 0)


@settings(deadline=None, max_examples=60)
@given(pairs=st.lists(st.tuples(VALUES, VALUES), max_size=30))
def test_equal_to_the_loop(pairs: list[tuple[float, float]]) -> None:
    delta, merge = [d for d, _ in pairs], [m for _, m in pairs]
    assert opposing_mass(torch.tensor(delta), torch.tensor(merge)) == pytest.approx(looped(delta, merge))


def test_more_than_one_chunk_in_any_shape() -> None:
    draw = torch.Generator().manual_seed(0)
    delta, merge = (torch.randn(3, CHUNK // 2, generator=draw) for _ in range(2))
    against, compared = opposing_mass(delta, merge)
    assert compared == pytest.approx(float(delta.abs().double().sum()))
    assert against == pytest.approx(float(delta.abs()[(delta * merge) < 0].double().sum()))


def test_what_is_no_number_shows() -> None:
    assert math.isnan(opposing_mass(torch.tensor([math.nan, 1.0]), torch.tensor([1.0, 1.0]))[1])


def test_a_sample_does_not_depend_on_where_slices_end() -> None:
    whole = torch.arange(1000)
    cut = [sampled(whole[first:last], first) for first, last in ((0, 7), (7, 61), (61, 500), (500, 1000))]
    assert torch.cat(cut).tolist() == sampled(whole, 0).tolist() == list(range(0, 1000, STRIDE))
