"""RegMean as a stream against its formula, with the side-cars that an engine would hand over."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mergenode.errors import FatalError, UsageError
from mergenode.methods import build_method
from mergenode.methods.contract import Incoming, Method, Statistics
from mergenode.types import DType, TensorSpec
from tests.support import literal_sums
from tests.support.method_runs import weight

WIDTH = 20
SHAPES = [(12, WIDTH), (WIDTH, WIDTH), (40, WIDTH)]
TOTALS = {"count": 5.0, "weight_sum": 5.0}


def spec_of(shape: tuple[int, ...], name: str = "block.up.weight") -> TensorSpec:
    return TensorSpec(name, DType.F32, shape)


def vectors_of(shape: tuple[int, ...], count: int, seed: int = 0) -> list[Tensor]:
    return [weight(*shape, seed=seed + n, scale=0.02 * (1 + n % 3)) for n in range(count)]


def inputs_of(count: int, rows: int = 64, seed: int = 0) -> list[Tensor]:
    """What the layer sees: correlated, with a mean, and of another loudness for every contribution."""
    found = []
    for number in range(count):
        mixed = weight(rows, WIDTH, seed=300 + seed + number) @ weight(WIDTH, WIDTH, seed=400 + seed + number)
        found.append((mixed + 2.0) * 10.0**number)
    return found


def gram_of(inputs: Tensor) -> Tensor:
    return (inputs.double().T @ inputs.double() / len(inputs)).float()


def arrived(vector: Tensor, gram: Tensor | None, share: float = 1.0) -> Incoming:
    return Incoming(vector * share, None, side={} if gram is None else {"gram": gram}, weight=share)


def stream(method: Method, spec: TensorSpec, base: Tensor, contributions: Sequence[Incoming]) -> Statistics:
    statistics: Statistics = {}
    for contribution in contributions:
        statistics = method.fold(spec, statistics, base, contribution).statistics
    return statistics


def far(left: Tensor, right: Tensor) -> float:
    return float((left.double() - right.double()).norm() / right.double().norm())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("off_diagonal", "ridge"), [(0.9, 1e-3), (0.5, 1e-6), (0.0, 1e-3)])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_streamed_equals_batch(shape: tuple[int, int], off_diagonal: float, ridge: float, count: int) -> None:
    method = build_method("regmean", {"off_diagonal": off_diagonal, "ridge": ridge})
    base, vectors, shares = torch.zeros(shape), vectors_of(shape, count), [0.5, 1.0, 2.0, 1.0, 3.0][:count]
    grams = [gram_of(inputs) for inputs in inputs_of(count)]
    doubles = [[tensor.double() for tensor in tensors] for tensors in (vectors, grams)]
    expected = literal_sums.regmean(*doubles, shares, off_diagonal, ridge)
    everyone = [arrived(*each) for each in zip(vectors, grams, shares, strict=True)]
    condition = torch.linalg.cond(stream(method, spec_of(shape), base, everyone)["gram"].double())
    for order in (everyone, everyone[::-1], everyone[2:] + everyone[:2]):
        statistics = stream(method, spec_of(shape), base, order)
        found = method.export(spec_of(shape), statistics, base, TOTALS)
        assert far(found, expected) < 1e-6 + 3e-8 * float(condition)


@pytest.mark.parametrize("shape", SHAPES)
def test_statistics_are_sums_to_a_millionth(shape: tuple[int, int]) -> None:
    method, vectors, grams = build_method("regmean", {}), vectors_of(shape, 6), [gram_of(x) for x in inputs_of(6)]
    everyone = [arrived(*each) for each in zip(vectors, grams, strict=True)]
    one, other = (stream(method, spec_of(shape), torch.zeros(shape), o) for o in (everyone, everyone[::-1]))
    assert all(far(one[name], other[name]) < 1e-6 for name in one)


def test_the_merge_answers_like_every_contribution_on_its_own_inputs() -> None:
    """What RegMean is for: contributions that live on different inputs do not disturb each other, unlike their mean."""
    shape, base = (12, WIDTH), torch.zeros(12, WIDTH)
    basis = torch.linalg.qr(weight(WIDTH, WIDTH, seed=5)).Q
    inputs = [weight(200, 10, seed=6) @ basis[:10], weight(200, 10, seed=7) @ basis[10:]]
    vectors = vectors_of(shape, 2)
    method = build_method("regmean", {"off_diagonal": 0.999, "ridge": 1e-6})
    statistics = stream(
        method, spec_of(shape), base, [arrived(v, gram_of(x)) for v, x in zip(vectors, inputs, strict=True)]
    )
    merged = method.export(spec_of(shape), statistics, base, TOTALS)
    mean = (vectors[0] + vectors[1]) / 2
    for vector, x in zip(vectors, inputs, strict=True):
        assert far(x @ merged.T, x @ vector.T) < 0.05
        assert far(x @ mean.T, x @ vector.T) > 0.3


def test_sums_and_means_of_inputs_weigh_alike() -> None:
    method, vectors, grams = build_method("regmean", {}), vectors_of((12, WIDTH), 2), [gram_of(x) for x in inputs_of(2)]
    plain = stream(
        method, spec_of((12, WIDTH)), torch.zeros(12, WIDTH), [arrived(*e) for e in zip(vectors, grams, strict=True)]
    )
    grams[1] = grams[1] * 4096.0
    summed = stream(
        method, spec_of((12, WIDTH)), torch.zeros(12, WIDTH), [arrived(*e) for e in zip(vectors, grams, strict=True)]
    )
    assert all(far(summed[name], plain[name]) < 1e-6 for name in plain)


@pytest.mark.parametrize("gram", [None, torch.zeros(WIDTH, WIDTH)])
def test_without_inputs_it_is_the_weighted_mean(gram: Tensor | None) -> None:
    shape, base = (12, WIDTH), weight(12, WIDTH, seed=3)
    method, vectors = build_method("regmean", {}), vectors_of((12, WIDTH), 3)
    everyone = [arrived(vector, gram, share) for vector, share in zip(vectors, (1.0, 2.0, 5.0), strict=True)]
    expected = base + (vectors[0] + 2 * vectors[1] + 5 * vectors[2]) / 8
    found = method.export(spec_of(shape), stream(method, spec_of(shape), base, everyone), base, TOTALS)
    assert torch.allclose(found, expected, atol=1e-6)


def test_an_input_that_nobody_used_is_averaged() -> None:
    shape, vectors, grams = (12, WIDTH), vectors_of((12, WIDTH), 2), [gram_of(x) for x in inputs_of(2)]
    for gram in grams:
        gram[3, :] = gram[:, 3] = 0.0
    method, base = build_method("regmean", {}), torch.zeros(shape)
    statistics = stream(method, spec_of(shape), base, [arrived(*each) for each in zip(vectors, grams, strict=True)])
    merged = method.export(spec_of(shape), statistics, base, TOTALS)
    assert torch.allclose(merged[:, 3], (vectors[0] + vectors[1])[:, 3] / 2, rtol=1e-3, atol=1e-6)


def test_a_single_contribution_comes_back_bit_for_bit() -> None:
    shape, base = (12, WIDTH), weight(12, WIDTH, seed=9)
    method, (vector,), (inputs,) = build_method("regmean", {}), vectors_of((12, WIDTH), 1), inputs_of(1)
    contribution = Incoming(vector, base + vector, side={"gram": gram_of(inputs)})
    statistics = stream(method, spec_of(shape), base, [contribution])
    assert torch.equal(method.export(spec_of(shape), statistics, base, TOTALS), base + vector)
    assert set(statistics) == {"first", "gram"}


@given(split=st.integers(0, 5), dense=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_combined_equals_pooled(split: int, dense: bool, seed: int) -> None:
    shape, method, base = (12, WIDTH), build_method("regmean", {}), weight(12, WIDTH, seed=9)
    everyone = [
        Incoming(vector, base + vector if dense else None, side={"gram": gram_of(inputs)})
        for vector, inputs in zip(vectors_of(shape, 5, seed), inputs_of(5, seed=seed), strict=True)
    ]
    left, right, pooled = (
        stream(method, spec_of(shape), base, part) for part in (everyone[:split], everyone[split:], everyone)
    )
    assert method.combine is not None
    for pair in ((left, right), (right, left)):
        combined = method.combine(spec_of(shape), *pair, base)
        assert all(far(combined[name], pooled[name]) < 1e-5 for name in pooled)


@given(gone=st.integers(0, 4), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_retracted_equals_never_folded(gone: int, seed: int) -> None:
    shape, method, base = (12, WIDTH), build_method("regmean", {}), torch.zeros(12, WIDTH)
    everyone = [
        arrived(vector, gram_of(inputs), share)
        for vector, inputs, share in zip(
            vectors_of(shape, 5, seed), inputs_of(5, seed=seed), (1.0, 2.0, 0.5, 1.0, 1.0), strict=True
        )
    ]
    assert method.retract is not None
    left = method.retract(spec_of(shape), stream(method, spec_of(shape), base, everyone), base, everyone[gone])
    never = stream(method, spec_of(shape), base, everyone[:gone] + everyone[gone + 1 :])
    assert all(far(left.statistics[name], never[name]) < 2e-6 for name in never)
    exported = [method.export(spec_of(shape), found, base, TOTALS) for found in (left.statistics, never)]
    assert far(*exported) < 1e-4


def test_taking_everything_back_leaves_nothing() -> None:
    shape, method, base = (12, WIDTH), build_method("regmean", {}), torch.zeros(12, WIDTH)
    everyone = [arrived(*each) for each in zip(vectors_of(shape, 3), map(gram_of, inputs_of(3)), strict=True)]
    assert method.retract is not None
    statistics = stream(method, spec_of(shape), base, everyone)
    for contribution in everyone[1:] + everyone[:1]:
        statistics = method.retract(spec_of(shape), statistics, base, contribution).statistics
    assert statistics == {}


@pytest.mark.parametrize(
    ("shape", "name", "options"),
    [
        ((40,), "block.up.bias", {}),
        ((30, WIDTH), "model.embed_tokens.weight", {}),
        ((12, WIDTH), "block.up.weight", {"width_limit": WIDTH - 1}),
        ((12, WIDTH), "block.up.weight", {"exclude": ["*.up.*"]}),
    ],
)
def test_what_is_not_solved_for_is_averaged(shape: tuple[int, ...], name: str, options: dict[str, object]) -> None:
    method, base, vectors = build_method("regmean", options), torch.zeros(shape), vectors_of(shape, 5)
    statistics = stream(method, spec_of(shape, name), base, [arrived(vector, None) for vector in vectors])
    assert set(statistics) == {"sum"}
    assert far(method.export(spec_of(shape, name), statistics, base, TOTALS), sum(vectors) / 5) < 1e-6
    assert method.state_factor(spec_of(shape, name)) == 1.0


def test_statistics_that_are_damaged_are_told_by_name() -> None:
    method, statistics = build_method("regmean", {}), {"gram": -torch.eye(WIDTH), "product": torch.ones(12, WIDTH)}
    with pytest.raises(FatalError, match=r"block\.up\.weight.*not positive definite"):
        method.export(spec_of((12, WIDTH)), statistics, torch.zeros(12, WIDTH), TOTALS)


@pytest.mark.parametrize(
    "options",
    [{"off_diagonal": 1.0}, {"off_diagonal": True}, {"ridge": 0}, {"ridge": float("inf")}, {"width_limit": -1}],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="regmean: option"):
        build_method("regmean", options)


def test_it_says_what_it_needs() -> None:
    assert build_method("regmean", {}).needs == {"gram"}
