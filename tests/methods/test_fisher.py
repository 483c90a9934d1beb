"""Fisher merging as a stream against its formula, with the side-cars that an engine would hand over."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mergenode.errors import UsageError
from mergenode.maths.norms import CHUNK
from mergenode.methods import build_method
from mergenode.methods.contract import Incoming, Method, Statistics
from mergenode.types import DType, TensorSpec
from tests.support import literal_sums
from tests.support.method_runs import weight

SHAPE = (12, 20)
SPEC = TensorSpec("block.up.weight", DType.F32, SHAPE)
TOTALS: dict[str, float] = {}
FLOOR = 1e-3


def vectors_of(count: int, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> list[Tensor]:
    return [weight(*shape, seed=seed + n, scale=0.02 * (1 + n % 3)) for n in range(count)]


def fishers_of(count: int, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> list[Tensor]:
    """Squared gradients: never negative, over many orders of magnitude, 0 in places."""
    found = [weight(*shape, seed=500 + seed + n).mul(2.0).exp().mul_(10.0**n) for n in range(count)]
    for number, tensor in enumerate(found):
        tensor.view(-1)[number::7] = 0.0
    return found


def arrived(base: Tensor, vector: Tensor, found: Tensor | None, share: float = 1.0, *, dense: bool = False) -> Incoming:
    rms = {} if found is None else {"fisher": found, "fisher_rms": found.double().square().mean().sqrt().float()}
    return Incoming(vector * share, base + vector if dense and share == 1.0 else None, side=rms, weight=share)


def stream(method: Method, base: Tensor, contributions: Sequence[Incoming]) -> Statistics:
    statistics: Statistics = {}
    for contribution in contributions:
        statistics = method.fold(SPEC, statistics, base, contribution).statistics
    return statistics


def far(left: Tensor, right: Tensor) -> float:
    return float((left.double() - right.double()).norm() / right.double().norm())


def even(found: Tensor) -> Tensor:
    return found.double() / found.double().square().mean().sqrt()


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("normalise", [True, False])
def test_streamed_equals_batch(count: int, normalise: bool) -> None:
    method, base = build_method("fisher", {"normalise": normalise}), torch.zeros(SHAPE)
    vectors, fishers, shares = vectors_of(count), fishers_of(count), [0.5, 1.0, 2.0, 1.0, 3.0][:count]
    wide = [even(found) if normalise else found.double() for found in fishers]
    expected = literal_sums.fisher([vector.double() for vector in vectors], wide, shares, FLOOR)
    everyone = [arrived(base, *each) for each in zip(vectors, fishers, shares, strict=True)]
    for order in (everyone, everyone[::-1], everyone[2:] + everyone[:2]):
        assert far(method.export(SPEC, stream(method, base, order), base, TOTALS), expected) < 1e-6


def test_with_task_vectors_it_is_the_formula_of_the_paper_on_weights() -> None:
    method, base, vectors, fishers = build_method("fisher", {}), weight(*SHAPE, seed=77), vectors_of(4), fishers_of(4)
    models = [base.double() + vector.double() for vector in vectors]
    expected = literal_sums.fisher(models, [even(found) for found in fishers], [1.0] * 4, FLOOR)
    for dense in (True, False):
        everyone = [arrived(base, *each, dense=dense) for each in zip(vectors, fishers, strict=True)]
        assert far(method.export(SPEC, stream(method, base, everyone), base, TOTALS), expected) < 1e-6


def test_what_matters_to_nobody_is_averaged_and_what_matters_to_one_is_kept() -> None:
    method, base, (one, other) = build_method("fisher", {"floor": 1e-6}), torch.zeros(SHAPE), vectors_of(2)
    mine = torch.zeros(SHAPE)
    mine[0] = 1.0
    merged = method.export(
        SPEC, stream(method, base, [arrived(base, one, mine), arrived(base, other, torch.zeros(SHAPE))]), base, TOTALS
    )
    assert torch.allclose(merged[0], one[0], rtol=1e-4)
    assert torch.allclose(merged[1:], (one[1:] + other[1:]) / 2, rtol=1e-5)


def test_without_side_cars_it_is_the_weighted_mean() -> None:
    method, base, vectors = build_method("fisher", {}), weight(*SHAPE, seed=3), vectors_of(3)
    everyone = [arrived(base, vector, None, share) for vector, share in zip(vectors, (1.0, 2.0, 5.0), strict=True)]
    expected = base + (vectors[0] + 2 * vectors[1] + 5 * vectors[2]) / 8
    assert torch.allclose(method.export(SPEC, stream(method, base, everyone), base, TOTALS), expected, atol=1e-6)


def test_the_size_of_a_fisher_does_not_matter_when_normalised() -> None:
    method, base, vectors, fishers = build_method("fisher", {}), torch.zeros(SHAPE), vectors_of(3), fishers_of(3)
    everyone = [arrived(base, *each) for each in zip(vectors, fishers, strict=True)]
    everyone[1] = arrived(base, vectors[1], fishers[1] * 4096.0)
    plain = stream(method, base, [arrived(base, *each) for each in zip(vectors, fishers, strict=True)])
    assert all(far(tensor, plain[name]) < 1e-6 for name, tensor in stream(method, base, everyone).items())


def test_a_single_contribution_comes_back_bit_for_bit() -> None:
    method, base, (vector,), (found,) = build_method("fisher", {}), weight(*SHAPE, seed=9), vectors_of(1), fishers_of(1)
    statistics = stream(method, base, [arrived(base, vector, found, dense=True)])
    assert torch.equal(method.export(SPEC, statistics, base, TOTALS), base + vector)


@given(split=st.integers(0, 5), dense=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_combined_equals_pooled(split: int, dense: bool, seed: int) -> None:
    method, base = build_method("fisher", {}), weight(*SHAPE, seed=9)
    everyone = [arrived(base, *each, dense=dense) for each in zip(vectors_of(5, seed=seed), fishers_of(5), strict=True)]
    left, right, pooled = (stream(method, base, part) for part in (everyone[:split], everyone[split:], everyone))
    assert method.combine is not None
    for pair in ((left, right), (right, left)):
        combined = method.combine(SPEC, *pair, base)
        assert all(far(combined[name], pooled[name]) < 2e-6 for name in pooled)


@given(gone=st.integers(0, 4), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_retracted_equals_never_folded_to_rounding_of_what_was_there(gone: int, seed: int) -> None:
    method, base = build_method("fisher", {}), weight(*SHAPE, seed=9)
    everyone = [arrived(base, *each) for each in zip(vectors_of(5, seed=seed), fishers_of(5, seed=seed), strict=True)]
    assert method.retract is not None
    whole = stream(method, base, everyone)
    left = method.retract(SPEC, whole, base, everyone[gone]).statistics
    never = stream(method, base, everyone[:gone] + everyone[gone + 1 :])
    mass = sum(stream(method, base, [one])["weighted"].abs() for one in everyone)  # nothing cancels in it
    for name, most in (("weighted", mass), ("weights", whole["weights"])):
        assert bool(((left[name] - never[name]).abs() <= 1e-6 * most).all())


def test_entries_that_only_the_retracted_one_stood_for_are_nobodys() -> None:
    """What subtraction leaves of a large number is rounding, and the quotient of two roundings would be anything."""
    method, base, (one, other) = build_method("fisher", {}), weight(*SHAPE, seed=9), vectors_of(2)
    assert method.retract is not None
    loud = arrived(base, one, torch.full(SHAPE, 3.0))
    quiet = Incoming(other, side={"fisher": torch.full(SHAPE, 1e-9), "fisher_rms": torch.tensor(1e3)})
    method = build_method("fisher", {"floor": 1e-12})
    assert method.retract is not None
    left = method.retract(SPEC, stream(method, base, [loud, quiet]), base, loud).statistics
    assert torch.equal(method.export(SPEC, left, base, TOTALS), base)


def test_slices_are_slices_of_the_whole_with_side_cars() -> None:
    size = CHUNK + 4099
    method, spec = build_method("fisher", {}), TensorSpec("layer.bias", DType.F32, (size,))
    base, vectors, fishers = weight(size, seed=1), vectors_of(3, (size,)), fishers_of(3, (size,))
    cuts = [0, 1, 1003, CHUNK + 7, size]
    whole: Statistics = {}
    parts: list[Statistics] = [{} for _ in cuts[1:]]
    for vector, found in zip(vectors, fishers, strict=True):
        contribution = arrived(base, vector, found, dense=True)
        whole = method.fold(spec, whole, base, contribution).statistics
        for index, (start, stop) in enumerate(pairwise(cuts)):
            assert contribution.tuned is not None
            side = {"fisher": found[start:stop], "fisher_rms": contribution.side["fisher_rms"]}
            piece = Incoming(vector[start:stop], contribution.tuned[start:stop], side=side)
            parts[index] = method.fold(spec, parts[index], base[start:stop], piece).statistics
    for name, tensor in whole.items():
        assert torch.equal(tensor, torch.cat([part[name] for part in parts]))


@pytest.mark.parametrize("options", [{"floor": 0}, {"floor": "much"}, {"floor": float("inf")}, {"normalise": 1}])
def test_options_that_mean_nothing_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="fisher: option"):
        build_method("fisher", options)


def test_it_says_what_it_needs() -> None:
    assert build_method("fisher", {}).needs == {"fisher"}
