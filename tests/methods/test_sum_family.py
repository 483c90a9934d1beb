"""Streamed equals batch for every method of the sum family: any order, any split, and what was taken back again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mergenode.maths.packed_symmetric import diagonal, packed
from mergenode.methods import build_method
from mergenode.methods.contract import Incoming, Method, Statistics
from mergenode.types import DType, TensorSpec
from tests.support import literal_sums
from tests.support.method_runs import running, weight

NOISE = 16 * torch.finfo(torch.float32).eps
ALL = literal_sums.participation_filter(NOISE)
FLOW = literal_sums.flow_filter(1300.0, 0.65)
Batch = Callable[[Sequence[Tensor]], Tensor]
Case = tuple[str, Mapping[str, object], Batch]

MATRIX: list[Case] = [
    ("iso", {}, lambda vectors: literal_sums.iso(vectors, 40 * 1.2e-7)),
    ("tsvm", {}, literal_sums.tsvm),
    ("tsvm", {"rank_share": 0.5}, lambda vectors: literal_sums.tsvm(vectors, 0.5)),
    ("aswudi", {}, lambda vectors: literal_sums.wudi(vectors, ALL, "both")),
    ("aswudi", {"sides": "input"}, lambda vectors: literal_sums.wudi(vectors, ALL, "input")),
    ("swudi", {}, lambda vectors: literal_sums.wudi(vectors, FLOW, "input")),
    ("swudi", {"sides": "both"}, lambda vectors: literal_sums.wudi(vectors, FLOW, "both")),
]
ELEMENTWISE: list[Case] = [
    ("ties", {}, lambda vectors: literal_sums.ties(vectors, 0.2)),
    ("ties", {"density": 0.5}, lambda vectors: literal_sums.ties(vectors, 0.5)),
    ("ties", {"density": 1.0}, lambda vectors: literal_sums.ties(vectors, 1.0)),
    ("magmax", {}, literal_sums.magmax),
]
SHAPES = [(24, 24), (40, 16), (16, 40)]


def name_of(case: Case) -> str:
    return "-".join([case[0], *map(str, case[1].values())])


def task_vectors(shape: tuple[int, ...], count: int, seed: int = 0) -> list[Tensor]:
    """Of different lengths, with a falling spectrum where they are matrices, as fine-tuning leaves them."""
    found = []
    for number in range(count):
        vector = weight(*shape, seed=seed + number) * 0.1 * (1 + number % 3)
        if len(shape) == 2:
            u, s, vh = torch.linalg.svd(vector, full_matrices=False)
            vector = u @ torch.diag(s * torch.arange(1, len(s) + 1).float() ** -0.5) @ vh
        found.append(vector)
    return found


def spec_of(shape: tuple[int, ...]) -> TensorSpec:
    return TensorSpec("block.up.weight" if len(shape) == 2 else "block.up.bias", DType.F32, shape)


def stream(method: Method, vectors: Sequence[Tensor]) -> Statistics:
    statistics: Statistics = {}
    for vector in vectors:
        folded = method.fold(spec_of(vector.shape), statistics, torch.zeros_like(vector), Incoming(vector))
        statistics = folded.statistics
    return statistics


def export(method: Method, statistics: Statistics, shape: tuple[int, ...], count: int) -> Tensor:
    totals = {"count": float(count), "weight_sum": float(count), "merge_sq": 1.0}
    return method.export(spec_of(shape), statistics, torch.zeros(shape), totals)


def far(left: Tensor, right: Tensor) -> float:
    return float((left.double() - right.double()).norm() / right.double().norm())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", MATRIX + ELEMENTWISE, ids=name_of)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_streamed_equals_batch(case: Case, shape: tuple[int, int], count: int) -> None:
    method, vectors = build_method(case[0], case[1]), task_vectors(shape, count)
    expected = case[2]([vector.double() for vector in vectors])
    # SWUDI multiplies the rounding of directions that nobody tuned by its flow time.
    bound = 3e-5 if method.name == "swudi" else 3e-6
    for order in (vectors, vectors[::-1], vectors[2:] + vectors[:2]):
        assert far(export(method, stream(method, order), shape, count), expected) < bound


@pytest.mark.parametrize("shape", SHAPES)
def test_moments_are_those_of_the_definition(shape: tuple[int, int]) -> None:
    vectors = task_vectors(shape, 20)
    statistics = stream(build_method("aswudi", {}), vectors)
    wide = [vector.double() for vector in vectors]
    shares = [1 / float(t.square().sum()) for t in wide]
    assert far(statistics["sum"], sum(wide)) < 1e-6
    assert far(statistics["input_gram"], packed(sum(w * t.T @ t for w, t in zip(shares, wide, strict=True)))) < 1e-6
    assert far(statistics["output_gram"], packed(sum(w * t @ t.T for w, t in zip(shares, wide, strict=True)))) < 1e-6
    assert far(statistics["cubic"], sum(w * t @ t.T @ t for w, t in zip(shares, wide, strict=True))) < 1e-6
    assert float(diagonal(statistics["input_gram"]).sum()) == pytest.approx(20, rel=1e-5)


@pytest.mark.parametrize("case", MATRIX + ELEMENTWISE + [("dare", {}, sum)], ids=name_of)
@given(order=st.permutations(range(6)), seed=st.integers(0, 99))
@settings(max_examples=5, deadline=None)
def test_statistics_do_not_depend_on_the_order(case: Case, order: list[int], seed: int) -> None:
    method, vectors = build_method(case[0], case[1]), task_vectors((12, 20), 6, seed)
    here, there = stream(method, vectors), stream(method, [vectors[index] for index in order])
    if "triplets" in here:  # in the order of arrival: compare what they stand for
        assert far(running(there, vectors[0]), running(here, vectors[0])) < 1e-6
        return
    for name, statistic in here.items():
        assert far(there[name], statistic) < 1e-6


@pytest.mark.parametrize("case", MATRIX + ELEMENTWISE + [("dare", {}, sum)], ids=name_of)
@given(split=st.integers(0, 6), seed=st.integers(0, 99))
@settings(max_examples=5, deadline=None)
def test_combined_equals_pooled(case: Case, split: int, seed: int) -> None:
    method, vectors = build_method(case[0], case[1]), task_vectors((12, 20), 6, seed)
    assert method.combine is not None
    base = torch.zeros(12, 20)
    left, right = stream(method, vectors[:split]), stream(method, vectors[split:])
    for pair in ((left, right), (right, left)):
        combined = method.combine(spec_of((12, 20)), *pair, base)
        pooled = stream(method, vectors)
        assert far(running(combined, base), running(pooled, base)) < 1e-6
        assert far(export(method, combined, (12, 20), 6), export(method, pooled, (12, 20), 6)) < 1e-5


@pytest.mark.parametrize("case", [*MATRIX, *ELEMENTWISE, ("dare", {}, sum)], ids=name_of)
@given(gone=st.integers(0, 4), seed=st.integers(0, 99))
@settings(max_examples=5, deadline=None)
def test_retracted_equals_never_folded(case: Case, gone: int, seed: int) -> None:
    method, vectors = build_method(case[0], case[1]), task_vectors((12, 20), 5, seed)
    if method.retract is None:
        assert method.name in ("tsvm", "magmax")
        return
    spec, base = spec_of((12, 20)), torch.zeros(12, 20)
    after = method.retract(spec, stream(method, vectors), base, Incoming(vectors[gone])).statistics
    never = stream(method, vectors[:gone] + vectors[gone + 1 :])
    for name in never:
        assert far(after[name], never[name]) < 1e-6
    assert far(export(method, after, (12, 20), 4), export(method, never, (12, 20), 4)) < 1e-5


@pytest.mark.parametrize("case", [*MATRIX, *ELEMENTWISE], ids=name_of)
def test_taking_everything_back_leaves_the_base(case: Case) -> None:
    method, vectors = build_method(case[0], case[1]), task_vectors((12, 20), 3)
    if method.retract is None or method.name == "iso":
        return  # of iso's sum rounding is left, and it has no way to tell
    spec, base = spec_of((12, 20)), weight(12, 20, seed=77)
    statistics: Statistics = {}
    for vector in vectors:
        statistics = method.fold(spec, statistics, base, Incoming(vector)).statistics
    for vector in vectors[1:] + vectors[:1]:
        statistics = method.retract(spec, statistics, base, Incoming(vector)).statistics
    left = method.export(spec, statistics, base, {"count": 0.0, "weight_sum": 0.0, "merge_sq": 0.0})
    assert torch.allclose(left, base, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", MATRIX, ids=name_of)
def test_low_rank_task_vectors(case: Case) -> None:
    """Adapters: no more directions than they have, and none that rounding made up."""
    vectors = [weight(24, 3, seed=n) @ weight(3, 40, seed=10 + n) * 0.01 for n in range(4)]
    method = build_method(case[0], case[1])
    merged = export(method, stream(method, vectors), (24, 40), 4)
    assert torch.linalg.matrix_rank(merged.double(), rtol=1e-4) <= 12
    basis = torch.linalg.svd(torch.cat(vectors).double(), full_matrices=False).Vh[:12]
    assert far(merged.double() @ basis.T @ basis, merged.double()) < 1e-4


@pytest.mark.parametrize("case", MATRIX, ids=name_of)
def test_a_single_contribution_comes_back(case: Case) -> None:
    method, (vector,) = build_method(case[0], case[1]), task_vectors((16, 40), 1)
    if method.name == "iso" or method.options.get("rank_share") == 0.5:
        return  # neither gives a task vector back as it was
    base = weight(16, 40, seed=3)
    tuned = base + vector
    folded = method.fold(spec_of((16, 40)), {}, base, Incoming(tuned - base, tuned))
    exported = method.export(spec_of((16, 40)), folded.statistics, base, {"count": 1.0, "weight_sum": 1.0})
    assert torch.allclose(exported, tuned, rtol=0, atol=2e-6)
    if method.name != "tsvm":
        assert torch.equal(exported, tuned)


@pytest.mark.parametrize("case", [*MATRIX, *ELEMENTWISE, ("dare", {}, sum), ("task_arithmetic", {}, sum)], ids=name_of)
def test_scale_and_profile_stretch_the_published_update(case: Case) -> None:
    method, vectors = build_method(case[0], case[1]), task_vectors((24, 24), 3)
    plain = export(method, stream(method, vectors), (24, 24), 3)
    own = {"dare": 0.3, "task_arithmetic": 0.3}.get(method.name, 1.0)
    for options, factor in (
        ({"scale": 2.5 * own}, 2.5),
        ({"profile": {"*.up.*": 0.5, "block.*": 0.5, "*.down.*": 9.0}}, 0.25),
        ({"scale": 4.0 * own, "profile": {"*": 0}}, 0.0),
    ):
        other = build_method(case[0], {**case[1], **options})
        assert torch.allclose(export(other, stream(other, vectors), (24, 24), 3), factor * plain, rtol=1e-5, atol=1e-7)
        assert build_method(other.name, other.options).options == other.options


@pytest.mark.parametrize("case", MATRIX, ids=name_of)
def test_tensors_that_are_no_linear_maps_are_averaged(case: Case) -> None:
    method, vectors = build_method(case[0], case[1]), task_vectors((40,), 4)
    mean = sum(vector.double() for vector in vectors) / 4
    assert far(export(method, stream(method, vectors), (40,), 4), mean) < 1e-6
    assert set(stream(method, vectors)) == {"sum"}


@pytest.mark.parametrize("case", [*MATRIX, *ELEMENTWISE], ids=name_of)
@pytest.mark.parametrize("factor", [1e-12, 1e12])
def test_size_does_not_matter(case: Case, factor: float) -> None:
    """Task vectors a trillion times larger or smaller give the merge times as much: fp32 has room for it."""
    method, vectors = build_method(case[0], case[1]), task_vectors((16, 40), 3)
    scaled = [vector * factor for vector in vectors]
    plain, stretched = stream(method, vectors), stream(method, scaled)
    assert far(export(method, stretched, (16, 40), 3).double() / factor, export(method, plain, (16, 40), 3)) < 1e-4


@pytest.mark.parametrize("case", MATRIX, ids=name_of)
def test_a_zero_task_vector_in_between_changes_nothing(case: Case) -> None:
    method, vectors = build_method(case[0], case[1]), task_vectors((16, 40), 3)
    zero = torch.zeros(16, 40)
    with_zeros = stream(method, [zero, vectors[0], zero, *vectors[1:], zero])
    plain = stream(method, vectors)
    assert torch.equal(export(method, with_zeros, (16, 40), 3), export(method, plain, (16, 40), 3))


def test_tsvm_with_more_contributions_than_directions() -> None:
    """Past one triplet each, the strongest of the leading triplets stay, whatever the order."""
    method, vectors = build_method("tsvm", {}), task_vectors((4, 6), 9)
    expected = literal_sums.tsvm([vector.double() for vector in vectors])
    for order in (vectors, vectors[::-1]):
        statistics = stream(method, order)
        assert statistics["triplets"].shape == (2, 4)
        assert far(export(method, statistics, (4, 6), 9), expected) < 3e-6


def test_tsvm_never_holds_more_triplets_than_the_short_side_has() -> None:
    method = build_method("tsvm", {})
    statistics: Statistics = {}
    for number, vector in enumerate(task_vectors((8, 20), 12), 1):
        statistics = method.fold(spec_of((8, 20)), statistics, torch.zeros(8, 20), Incoming(vector)).statistics
        assert statistics["triplets"].shape[1] <= 8
        assert float(statistics["count"]) == number


@pytest.mark.parametrize(
    ("options", "shape", "grams"),
    [
        ({}, (40, 16), {"input_gram", "output_gram"}),
        ({"width_limit": 20}, (40, 16), {"input_gram"}),
        ({"width_limit": 20}, (16, 40), {"output_gram"}),
        ({"width_limit": 20, "sides": "input"}, (16, 40), set()),
        ({"width_limit": 8}, (16, 40), set()),
    ],
)
def test_a_side_that_is_too_wide_has_no_gram_matrix_and_the_fold_says_so(
    options: dict[str, object], shape: tuple[int, int], grams: set[str]
) -> None:
    method, vectors = build_method("aswudi", options), task_vectors(shape, 3)
    statistics = stream(method, vectors)
    assert {name for name in statistics if name.endswith("gram")} == grams
    folded = method.fold(spec_of(shape), statistics, torch.zeros(shape), Incoming(vectors[0]))
    assert {name for name, kept in folded.observed.items() if kept} == grams
    doubles = [vector.double() for vector in vectors]
    if not grams:
        expected = literal_sums.iso(doubles, 1e-5)
    elif grams == {"input_gram"}:
        expected = literal_sums.wudi_side(doubles, ALL)
    elif grams == {"output_gram"}:
        expected = literal_sums.wudi_side([vector.T for vector in doubles], ALL).T
    else:
        expected = literal_sums.wudi(doubles, ALL, "both")
    assert far(export(method, statistics, shape, 3), expected) < 3e-6


def test_ties_votes_are_counted_and_limited() -> None:
    from mergenode.errors import FatalError
    from mergenode.methods.ties import MOST_VOTES

    method, spec = build_method("ties", {"density": 1.0}), spec_of((3,))
    votes = torch.tensor([MOST_VOTES, 0, 5], dtype=torch.int16)
    full: Statistics = {
        "positive": votes.float(), "sum": votes.float(), "positive_count": votes, "negative_count": votes * 0,
    }  # fmt: skip
    folded = method.fold(spec, full, torch.zeros(3), Incoming(torch.tensor([0.0, 2.0, -1.0])))
    assert folded.statistics["positive_count"].tolist() == [MOST_VOTES, 1, 5]
    assert folded.statistics["negative_count"].tolist() == [0, 0, 1]
    with pytest.raises(FatalError, match=r"block\.up\.bias"):
        method.fold(spec, full, torch.zeros(3), Incoming(torch.ones(3)))
    assert method.combine is not None
    with pytest.raises(FatalError, match="32767"):
        method.combine(spec, full, full, torch.zeros(3))


def test_slices_and_whole_agree_for_ties_without_trim() -> None:
    method, vectors = build_method("ties", {"density": 1.0}), task_vectors((1000,), 3)
    whole = stream(method, vectors)
    for start, stop in pairwise([0, 7, 512, 1000]):
        part = stream(method, [vector[start:stop] for vector in vectors])
        assert all(torch.equal(part[name], whole[name][start:stop]) for name in whole)
