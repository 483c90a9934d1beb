"""How exactly a contribution leaves: bit for bit where sums are exact, else to rounding of the largest running sum."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mergenode.methods import build_method
from mergenode.methods.contract import Incoming
from tests.methods.test_sum_family import export, name_of, spec_of, stream, task_vectors

SHAPE = (16, 16)
PLAIN = [
    ("task_arithmetic", {}), ("average", {}), ("iso", {}), ("ties", {}), ("ties", {"density": 1.0}),
    ("dare", {}), ("dare", {"drop": 0.75}),
]  # fmt: skip
MOMENTS: list[tuple[str, Mapping[str, object]]] = [
    ("aswudi", {}), ("aswudi", {"sides": "input"}), ("swudi", {}), ("swudi", {"sides": "both"}),
]  # fmt: skip
UNIT = torch.finfo(torch.float32).eps / 2


def steps(seed: int, least: int, most: int) -> Tensor:
    """Multiples of 1/64 between ``least`` and ``most`` of them: sums of a few are exact in float32."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(least, most + 1, SHAPE, generator=generator).float() / 64


def signs(seed: int) -> Tensor:
    """Plus or minus 1/8 everywhere: the norm is 2, so that squares and cubes over it are exact as well."""
    return (steps(seed, 0, 1) > 0).float() / 4 - 0.125


@pytest.mark.parametrize("case", [*PLAIN, *MOMENTS], ids=lambda case: name_of((*case, sum)))
@given(gone=st.integers(0, 4), seed=st.integers(0, 999))
@settings(max_examples=5, deadline=None)
def test_where_sums_are_exact_nothing_tells_that_it_was_ever_there(
    case: tuple[str, Mapping[str, object]], gone: int, seed: int
) -> None:
    method, base = build_method(*case), torch.zeros(SHAPE)
    vectors = [signs(seed + n) if case in MOMENTS else steps(seed + n, -200, 200) for n in range(5)]
    assert method.retract is not None
    after = method.retract(spec_of(SHAPE), stream(method, vectors), base, Incoming(vectors[gone])).statistics
    never = stream(method, vectors[:gone] + vectors[gone + 1 :])
    assert after.keys() == never.keys()
    assert all(torch.equal(after[name], never[name]) for name in never)
    assert torch.equal(export(method, after, SHAPE, 4), export(method, never, SHAPE, 4))


@pytest.mark.parametrize("case", [*PLAIN, *MOMENTS], ids=lambda case: name_of((*case, sum)))
@given(gone=st.integers(0, 5), seed=st.integers(0, 99), larger=st.sampled_from([1.0, 30.0, 1000.0]))
@settings(max_examples=5, deadline=None)
def test_else_every_element_is_off_by_the_rounding_of_the_running_sums(
    case: tuple[str, Mapping[str, object]], gone: int, seed: int, larger: float
) -> None:
    """Also when the one that leaves is a thousand times larger than the others: what it rounded away stays away."""
    method, base = build_method(*case), torch.zeros(12, 20)
    vectors = task_vectors((12, 20), 6, seed)
    vectors[gone] = vectors[gone] * larger
    assert method.retract is not None
    sums = [stream(method, vectors[:count]) for count in range(1, 7)]
    after = method.retract(spec_of((12, 20)), sums[-1], base, Incoming(vectors[gone])).statistics
    never = stream(method, vectors[:gone] + vectors[gone + 1 :])
    for name, expected in never.items():
        # Every fold and the retraction rounds once, each time at most half a unit of the largest that was there;
        # what a contribution brings is itself rounded, by products of up to 20 terms.
        largest = torch.stack([running[name].double().abs() for running in sums]).amax()
        assert float((after[name].double() - expected.double()).abs().max()) <= 2 * (len(sums) + 1) * UNIT * largest
