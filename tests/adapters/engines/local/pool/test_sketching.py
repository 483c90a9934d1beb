"""Sketches keep inner products, are linear, and are the same however a vector is cut."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import sqrt

import pytest
import torch
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mergenode.adapters.engines.local.pool.sketching import SketchScheme, packed

Vector = Mapping[str, Tensor]

GOLDEN = [6.0, -9.0, 11.0, -19.0, 11.0, -15.0, -34.0, -37.0]
"""Stored sketches are of this map: when it changes, the name of the scheme has to."""


def sketched(scheme: SketchScheme, vector: Vector) -> Tensor:
    sketch = scheme.empty()
    for name, values in vector.items():
        scheme.add(sketch, name, 0, values)
    return sketch


def literal(scheme: SketchScheme, vector: Vector) -> Tensor:
    """By the definition, an element at a time."""
    sketch = [0.0] * scheme.buckets
    for name, values in vector.items():
        hasher = blake3(b"mergenode/sketch/1\n" + scheme.seed.to_bytes(8, "little") + name.encode())
        for position, value in enumerate(values.tolist()):
            negative = hasher.digest(length=1, seek=position // 8)[0] >> (position % 8) & 1
            run = position // scheme.buckets
            distance = int.from_bytes(hasher.digest(length=16, seek=(1 << 62) + 16 * run), "little")
            sketch[(distance + position) % scheme.buckets] += -value if negative else value
    return torch.tensor(sketch, dtype=torch.float64)


def vector_of(seed: int, sizes: tuple[int, ...] = (300, 77, 1, 1000)) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {f"t{i}": torch.randn(size, generator=draw, dtype=torch.float64) for i, size in enumerate(sizes)}


@pytest.mark.parametrize("buckets", [1, 8, 100, 4096])
def test_it_is_what_the_definition_says(buckets: int) -> None:
    scheme = SketchScheme(seed=3, buckets=buckets)
    torch.testing.assert_close(sketched(scheme, vector_of(0)), literal(scheme, vector_of(0)), rtol=0, atol=1e-12)


def test_it_is_the_same_on_every_machine() -> None:
    scheme = SketchScheme(seed=1, buckets=8)
    values = torch.arange(1, 21, dtype=torch.float64)
    assert sketched(scheme, {"layers.0.weight": values}).tolist() == GOLDEN


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 125), max_size=6), st.integers(1, 400))
def test_cuts_change_nothing(cuts: list[int], buckets: int) -> None:
    scheme = SketchScheme(buckets=buckets)
    values = torch.arange(1000, dtype=torch.float64)
    sketch = scheme.empty()
    edges = [0, *sorted(8 * cut for cut in set(cuts)), 1000]
    for start, stop in pairwise(edges):
        scheme.add(sketch, "w", start, values[start:stop])
    assert torch.equal(sketch, sketched(scheme, {"w": values}))  # whole numbers: exact in any order


def test_a_cut_that_is_none_is_refused() -> None:
    scheme = SketchScheme()
    with pytest.raises(ValueError, match="multiple of 8"):
        scheme.add(scheme.empty(), "w", 4, torch.zeros(4, dtype=torch.float64))
    with pytest.raises(ValueError, match="bucket"):
        SketchScheme(buckets=0)


def test_estimates_are_unbiased_with_the_stated_error() -> None:
    """Over seeds, for vectors that are spread, that sit in few elements, and that are parallel."""
    draw = torch.Generator().manual_seed(5)
    spread = [torch.randn(1000, generator=draw, dtype=torch.float64) for _ in range(2)]
    spike = torch.zeros(1000, dtype=torch.float64)
    spike[[3, 700, 999]] = torch.tensor([5.0, -2.0, 9.0], dtype=torch.float64)
    for x, y in ((spread[0], spread[1]), (spread[0], spread[0]), (spike, spread[0]), (spike, spike)):
        found = []
        for seed in range(200):
            scheme = SketchScheme(seed=seed, buckets=64)
            first, second = (sketched(scheme, {"w": values}) for values in (x, y))
            found.append(float(first @ second))
        exact = float(x @ y)
        error = SketchScheme(buckets=64).error((float(x.norm()), float(y.norm())), exact)
        values = torch.tensor(found, dtype=torch.float64)
        assert abs(float(values.mean()) - exact) < 4 * error / sqrt(200)
        assert float((values - exact).square().mean().sqrt()) < 1.15 * error


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-1e30, 1e30, allow_subnormal=False), min_size=1, max_size=20))
def test_packing_loses_half_a_step_at_most(values: list[float]) -> None:
    sketch = torch.tensor(values, dtype=torch.float64)
    step, data = packed(sketch)
    assert len(data) == len(values)
    back = torch.frombuffer(bytearray(data), dtype=torch.int8).double() * step
    assert float((back - sketch).abs().max()) <= 0.5001 * step
