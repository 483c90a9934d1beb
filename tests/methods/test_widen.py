"""WIDEN as a stream against its definition, all contributions at once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mergenode.errors import UsageError
from mergenode.maths.change_ranks import Pieces, changes, relative_ranks
from mergenode.methods import build_method
from mergenode.methods.contract import Incoming, Method, Statistics
from mergenode.types import DType, TensorSpec
from tests.support import literal_sums
from tests.support.method_runs import weight

TOTALS = {"count": 5.0, "weight_sum": 5.0}


def spec_of(tensor: Tensor, name: str = "block.up.weight") -> TensorSpec:
    return TensorSpec(name, DType.F32, tuple(tensor.shape))


def far(left: Tensor, right: Tensor) -> float:
    return float((left.double() - right.double()).norm() / right.double().norm())


def vectors_of(shape: tuple[int, ...], count: int, seed: int = 0) -> list[Tensor]:
    return [weight(*shape, seed=seed + n, scale=0.02 * (1 + n % 3)) for n in range(count)]


def stream(method: Method, spec: TensorSpec, base: Tensor, vectors: Sequence[Tensor], *, dense: bool) -> Statistics:
    statistics: Statistics = {}
    for vector in vectors:
        arrived = Incoming(vector, base + vector if dense else None)
        statistics = method.fold(spec, statistics, base, arrived).statistics
    return statistics


def merged(method: Method, spec: TensorSpec, statistics: Statistics, base: Tensor) -> Tensor:
    return method.export(spec, statistics, base, TOTALS).double() - base.double()


@pytest.mark.parametrize("shape", [(24, 24), (40, 16), (16, 40)])
@pytest.mark.parametrize(("threshold", "calibration"), [(1.0, 1.0), (1.5, 0.5), (0.0, 1.0)])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_streamed_equals_batch(shape: tuple[int, int], threshold: float, calibration: float, count: int) -> None:
    method = build_method("widen", {"threshold": threshold, "calibration": calibration})
    base, vectors = weight(*shape, seed=9), vectors_of(shape, count)
    expected = literal_sums.widen(base.double(), [vector.double() for vector in vectors], threshold, calibration)
    zero = torch.zeros_like(base)
    for order in (vectors, vectors[::-1], vectors[2:] + vectors[:2]):
        statistics = stream(method, spec_of(base), base, order, dense=False)
        # Where the base is 0 in the export, no digits of the merged task vector are lost in the sum with it.
        assert far(method.export(spec_of(base), statistics, zero, TOTALS), expected) < 1e-6


def test_a_dense_contribution_and_a_task_vector_agree() -> None:
    method, base, vectors = build_method("widen", {}), weight(12, 20, seed=1009), vectors_of((12, 20), 4)
    one, other = (stream(method, spec_of(base), base, vectors, dense=dense) for dense in (True, False))
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in other)


def test_a_single_contribution_comes_back_bit_for_bit() -> None:
    method, base, (vector,) = build_method("widen", {}), weight(12, 20, seed=1009), vectors_of((12, 20), 1)
    statistics = stream(method, spec_of(base), base, [vector], dense=True)
    assert torch.equal(method.export(spec_of(base), statistics, base, TOTALS), base + vector)
    halved = build_method("widen", {"calibration": 0.5})
    expected = literal_sums.widen(base.double(), [vector.double()], 1.0, 0.5)
    assert far(merged(halved, spec_of(base), statistics, base), expected) < 1e-5


@pytest.mark.parametrize("shape", [(30,), (1, 30), (30, 1, 1), (1,), ()])
def test_vectors_are_scored_element_by_element(shape: tuple[int, ...]) -> None:
    method, base, vectors = build_method("widen", {}), torch.zeros(shape), vectors_of(shape, 4)
    spec = spec_of(base, "norm.weight")
    statistics = stream(method, spec, base, vectors, dense=False)
    assert set(statistics) == {"magnitude", "above", "softmax"}
    expected = literal_sums.widen_vector([vector.double().flatten() for vector in vectors])
    assert far(method.export(spec, statistics, base, TOTALS).flatten(), expected) < 1e-6


def test_kernels_are_matrices_of_what_one_output_sees() -> None:
    method, base, vectors = build_method("widen", {}), weight(6, 3, 2, 2, seed=9), vectors_of((6, 3, 2, 2), 3)
    spec = spec_of(base, "conv.weight")
    expected = literal_sums.widen(base.double().flatten(1), [vector.double().flatten(1) for vector in vectors])
    found = merged(method, spec, stream(method, spec, base, vectors, dense=False), base)
    assert far(found.flatten(1), expected) < 1e-5


def test_embeddings_are_scored_by_rows() -> None:
    method, base, vectors = build_method("widen", {}), weight(30, 8, seed=9), vectors_of((30, 8), 3)
    spec = spec_of(base, "model.embed_tokens.weight")
    expected = literal_sums.widen(base.double().T, [vector.double().T for vector in vectors]).T
    assert far(merged(method, spec, stream(method, spec, base, vectors, dense=False), base), expected) < 1e-5
    as_matrix = build_method("widen", {"include": ["*embed*"]})
    columns = literal_sums.widen(base.double(), [vector.double() for vector in vectors])
    assert far(merged(as_matrix, spec, stream(as_matrix, spec, base, vectors, dense=False), base), columns) < 1e-5


@given(split=st.integers(0, 5), dense=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_combined_equals_pooled(split: int, dense: bool, seed: int) -> None:
    method, base, vectors = build_method("widen", {}), weight(12, 20, seed=1009), vectors_of((12, 20), 5, seed)
    spec = spec_of(base)
    pooled = stream(method, spec, base, vectors, dense=dense)
    left, right = (stream(method, spec, base, part, dense=dense) for part in (vectors[:split], vectors[split:]))
    assert method.combine is not None
    for pair in ((left, right), (right, left)):
        combined = method.combine(spec, *pair, base)
        assert all(far(combined[name], pooled[name]) < 2e-6 for name in pooled)


@given(gone=st.integers(0, 4), dense=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_retracted_equals_never_folded(gone: int, dense: bool, seed: int) -> None:
    method, base, vectors = build_method("widen", {}), weight(12, 20, seed=1009), vectors_of((12, 20), 5, seed)
    spec = spec_of(base)
    assert method.retract is not None
    whole = stream(method, spec, base, vectors, dense=dense)
    left = method.retract(spec, whole, base, Incoming(vectors[gone], base + vectors[gone])).statistics
    never = stream(method, spec, base, vectors[:gone] + vectors[gone + 1 :], dense=dense)
    assert all(far(left[name], never[name]) < 2e-6 for name in never)


def test_taking_everything_back_leaves_nothing() -> None:
    method, base, vectors = build_method("widen", {}), weight(12, 20, seed=1009), vectors_of((12, 20), 4)
    assert method.retract is not None
    statistics = stream(method, spec_of(base), base, vectors, dense=True)
    for vector in vectors[2:] + vectors[:2]:
        statistics = method.retract(spec_of(base), statistics, base, Incoming(vector)).statistics
    assert statistics == {}


@pytest.mark.parametrize("size", [1e-5, 1e-2, 1.0, 30.0])
@pytest.mark.parametrize("by_rows", [False, True])
def test_changes_keep_their_digits(size: float, by_rows: bool) -> None:
    """1 - cos of a change of 1e-5 is 1e-10: the difference itself, taken in fp64, is the oracle."""
    base, delta = weight(300, 7, seed=1), weight(300, 7, seed=2, scale=size)
    delta[:, 3] = 0.0
    if by_rows:
        base, delta = base.T.contiguous(), delta.T.contiguous()
    length, aside = changes(Pieces(*base.shape, by_rows), base, delta)
    a, t = (tensor.double() if not by_rows else tensor.double().T for tensor in (base, delta))
    w = a + t
    expected = (w.norm(dim=0) - a.norm(dim=0)).abs()
    unit = ((w / w.norm(dim=0)) - a / a.norm(dim=0)).square().sum(dim=0) / 2
    assert torch.allclose(length, expected, rtol=1e-6, atol=1e-14)
    assert torch.allclose(aside, unit, rtol=1e-6, atol=1e-15)
    assert (float(length[3]), float(aside[3])) == (0.0, 0.0)


def test_a_column_out_of_nothing_went_all_the_way_aside() -> None:
    base, delta = torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[2.0, -1.0, 0.0]])
    length, aside = changes(Pieces(1, 3, False), base, delta)
    assert length.tolist() == [2.0, 1.0, 0.0]
    assert aside.tolist() == [1.0, 1.0, 0.0]


def test_equal_values_share_the_lowest_rank() -> None:
    assert relative_ranks(torch.tensor([3.0, 1.0, 3.0, 0.0])).tolist() == [0.5, 0.25, 0.5, 0.0]
    assert relative_ranks(torch.zeros(0)).tolist() == []


@pytest.mark.parametrize("options", [{"threshold": -1}, {"calibration": float("nan")}, {"threshold": True}])
def test_options_that_mean_nothing_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="widen: option"):
        build_method("widen", options)
