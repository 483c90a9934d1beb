"""What every method in METHODS has to do. A new method is picked up from the table."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import pytest
import torch

from mergenode.maths.magnitude import pieces_of
from mergenode.maths.norms import CHUNK, squared_norm
from mergenode.methods import METHODS, build_method
from mergenode.methods.contract import Incoming, Method, Statistics
from mergenode.methods.layouts import fitting
from mergenode.types import DType, TensorSpec
from tests.support.method_runs import Merge, incoming, merge_all, random_models, spec_of, weight, widened

CONFIGURATIONS = [(name, {}) for name in METHODS] + [
    ("opcm", {"variant": variant}) for variant in ("block_orthogonal", "diagonal", "paper")
]
CONFIGURATIONS += [("aswudi", {"sides": "input"}), ("aswudi", {"width_limit": 20}), ("swudi", {"sides": "both"})]
CONFIGURATIONS += [("ties", {"density": 1.0}), ("tsvm", {"rank_share": 0.5})]
CONFIGURATIONS += [("tsvm", {"merge": "agree"}), ("tsvm", {"merge": "agree", "rank_share": 2.0})]
SELECTIVE = ("tsvm", "dare", "magmax", "widen", "fisher", "regmean")
"""What enters a running merge there is not the difference between after and before."""
RELATIVE = 1e-6
SHOWN = ("ties", "dare", "magmax", "fisher")
"""Their kept_sq, merge_sq and dot are for people to look at, to fp32 accuracy."""


@pytest.fixture(params=CONFIGURATIONS, ids=lambda case: "-".join([case[0], *map(str, case[1].values())]))
def method(request: pytest.FixtureRequest) -> Method:
    name, options = request.param
    return build_method(name, options)


def identical(left: Mapping[str, torch.Tensor], right: Mapping[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_it_says_where_it_comes_from(method: Method) -> None:
    assert "arXiv" in method.reference
    assert METHODS[method.name]


def test_its_options_build_it_again(method: Method) -> None:
    again = build_method(method.name, method.options)
    assert again.options == method.options
    base, tuned = random_models(3)
    assert identical(merge_all(method, base, tuned).export(), merge_all(again, base, tuned).export())


def test_an_empty_merge_is_the_base(method: Method) -> None:
    base, _ = random_models(0)
    assert identical(Merge(method, base).export(), base)


@pytest.mark.parametrize("dense", [True, False])
def test_a_zero_delta_leaves_the_running_sum_unchanged(method: Method, dense: bool) -> None:
    base, tuned = random_models(2)
    merge = merge_all(method, base, tuned)
    before = merge.sums
    merge.fold(base, dense=dense)
    if method.ignores_untouched:  # what was held unchanged is a vote
        before = merge.sums
    assert identical(merge.sums, before)
    for name, sums in merge.last_sums.items():
        assert (sums["delta_sq"], sums["kept_sq"], sums.get("dot", 0.0)) == (0.0, 0.0, 0.0)
        exact = 1e-6 if method.name in SHOWN or method.ignores_untouched else 0.0
        assert sums["merge_sq"] == pytest.approx(squared_norm(before[name]), rel=exact, abs=0.0)


@pytest.mark.parametrize("dense", [True, False])
def test_only_zero_deltas_export_the_base(method: Method, dense: bool) -> None:
    base, _ = random_models(0)
    merge = Merge(method, base)
    for _ in range(3):
        merge.fold(base, dense=dense)
        assert identical(merge.export(), base)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_shapes_dtypes_and_inputs_survive(method: Method, dtype: torch.dtype) -> None:
    base, tuned = random_models(3, dtype=dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    copies = [{name: tensor.clone() for name, tensor in model.items()} for model in (base, *tuned)]
    merge = merge_all(method, base, tuned)
    exported = merge.export()
    for name, tensor in base.items():
        assert exported[name].shape == tensor.shape
        assert exported[name].dtype == wide
        assert exported[name].isfinite().all()
        stored = merge.statistics[name]
        if method.elementwise(spec_of(name, tensor)):
            assert all(statistic.shape == tensor.shape for statistic in stored.values())
        assert all(statistic.dtype in (wide, torch.int16) for statistic in stored.values())
        assert len(stored) <= 4
    assert all(identical(model, copy) for model, copy in zip((base, *tuned), copies, strict=True))


def test_fold_and_export_never_write_to_their_inputs(method: Method) -> None:
    for name, shape in (("layer.weight", (12, 9)), ("layer.bias", (12,))):
        base, spec = weight(*shape, seed=1), TensorSpec(name, DType.F32, shape)
        statistics: Statistics = {}
        totals: Mapping[str, float] = {}
        for seed in (2, 3, 4):
            arrived = Incoming(weight(*shape, seed=seed), weight(*shape, seed=seed) + base)
            watched = [base, arrived.delta, arrived.tuned, *statistics.values()]
            copies = [tensor.clone() for tensor in watched if tensor is not None]
            folded = method.fold(spec, statistics, base, arrived)
            totals = method.advance(totals, folded.sums, 1.0)
            method.export(spec, folded.statistics, base, totals)
            assert all(torch.equal(a, b) for a, b in zip(watched, copies, strict=True) if a is not None)
            for new in folded.statistics.values():
                assert all(new.data_ptr() != old.data_ptr() for old in watched if old is not None)
            statistics = folded.statistics


def test_it_is_deterministic(method: Method) -> None:
    base, tuned = random_models(4)
    first, second = merge_all(method, base, tuned), merge_all(method, base, tuned)
    assert identical(first.export(), second.export())
    assert first.totals == second.totals
    assert first.last_sums == second.last_sums
    assert first.observed == second.observed


def test_sums_mean_what_the_contract_says(method: Method) -> None:
    base, tuned = random_models(3)
    merge = merge_all(method, base, tuned[:2])
    before = {name: tensor.double() for name, tensor in merge.sums.items()}
    merge.fold(tuned[2])
    for name, after in merge.sums.items():
        delta = (widened(tuned[2][name]) - widened(base[name])).double()
        entered = after.double() - before[name]
        kept_sq = merge.last_sums[name]["kept_sq"]
        assert 0 <= kept_sq <= (1 + 1e-9) * float(delta.square().sum())
        expected = {
            "delta_sq": delta.square().sum(),
            "kept_sq": torch.tensor(kept_sq) if method.name in SELECTIVE else entered.square().sum(),
            "merge_sq": after.double().square().sum(),
            "dot": (delta * before[name]).sum(),
        }
        sums = merge.last_sums[name]
        assert expected.keys() - {"dot"} <= sums.keys()
        assert "dot" in sums or sums["kept_sq"] == sums["delta_sq"]
        for key in expected.keys() & sums.keys():
            scale = RELATIVE * float(expected["delta_sq"] + before[name].square().sum())
            exact = 1e-6 if method.name in SHOWN and key != "delta_sq" else 1e-9
            assert sums[key] == pytest.approx(float(expected[key]), rel=exact, abs=scale)


def test_slices_of_an_elementwise_method_are_slices_of_the_whole(method: Method) -> None:
    """Statistics and exports bit for bit, sums up to the order of fp64 additions. The cuts are off any SIMD grid."""
    size = CHUNK + 4099
    cuts = [0, 1, 8, 1003, 65536, CHUNK + 7, size]
    spec = TensorSpec("layer.bias", DType.F32, (size,))
    if not method.elementwise(spec):
        assert method.name == "widen", "all others take tensors without structure element by element"
        return
    base = weight(size, seed=1)
    parts: list[Statistics] = [{} for _ in cuts[1:]]
    whole: Statistics = {}
    totals: Mapping[str, float] = {}
    for seed, dense in ((2, True), (3, True), (4, False)):
        tuned = base + weight(size, seed=seed, scale=0.01)
        arrived = incoming(base, tuned, dense=dense)
        folded = method.fold(spec, whole, base, arrived._replace(content="c"))
        pieces, delta = [], arrived.delta
        surveyed = method.survey(spec, pieces_of(delta)) if method.survey is not None else None
        for index, (start, stop) in enumerate(pairwise(cuts)):
            exact_weights = arrived.tuned[start:stop] if arrived.tuned is not None else None
            some = Incoming(delta[start:stop], exact_weights, content="c", surveyed=surveyed, start=start)
            pieces.append(method.fold(spec, parts[index], base[start:stop], some))
        whole, parts = folded.statistics, [piece.statistics for piece in pieces]
        totals = method.advance(totals, folded.sums, 1.0)
        for name, tensor in whole.items():
            assert torch.equal(tensor, torch.cat([part[name] for part in parts]))
        for key, value in folded.sums.items():
            exact = 1e-6 if method.name in SHOWN and key != "delta_sq" else 1e-11
            scale = 0.1 * exact * (folded.sums["delta_sq"] + folded.sums["merge_sq"])
            assert sum(piece.sums[key] for piece in pieces) == pytest.approx(value, rel=exact, abs=scale)
        exported = method.export(spec, whole, base, totals)
        slices = [
            method.export(spec, part, base[start:stop], totals)
            for part, (start, stop) in zip(parts, pairwise(cuts), strict=True)
        ]
        assert torch.equal(exported, torch.cat(slices))


def test_export_is_elementwise_where_it_says_so(method: Method) -> None:
    base, tuned = random_models(3)
    name = "block.0.up.weight"
    spec, flat = spec_of(name, base[name]), base[name].flatten()
    if method.exports_whole(spec):
        return
    merge = merge_all(method, base, tuned)
    statistics = {key: tensor.flatten() for key, tensor in merge.statistics[name].items()}
    whole = merge.export()[name].flatten()
    for start, stop in pairwise([0, 3, 100, flat.numel()]):
        part = {key: tensor[start:stop] for key, tensor in statistics.items()}
        assert torch.equal(method.export(spec, part, flat[start:stop], merge.totals), whole[start:stop])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["block.0.up.weight", "block.0.up.bias"])
def test_values_that_are_not_finite_show_in_the_sums(method: Method, name: str, bad: float) -> None:
    """The engine refuses a contribution by its sums; a method must not fail before it can."""
    base, tuned = random_models(3)
    merge = merge_all(method, base, tuned[:2])
    delta = weight(*base[name].shape, seed=5)
    delta.view(-1)[7] = bad
    folded = method.fold(spec_of(name, base[name]), merge.statistics[name], base[name], Incoming(delta))
    for key in ("delta_sq", "merge_sq"):
        assert not folded.sums[key] < float("inf")


def test_adapters_enter_like_dense_contributions(method: Method) -> None:
    if method.name == "dare":
        return  # another content, other survivors: see test_dare
    base, tuned = random_models(3)
    dense, adapters = merge_all(method, base, tuned), Merge(method, base)
    for model in tuned:
        adapters.fold(model, dense=False)
    assert dense.totals == pytest.approx(adapters.totals, rel=1e-6)
    for name, tensor in dense.export().items():
        assert torch.allclose(tensor, adapters.export()[name], rtol=1e-5, atol=1e-6)


def test_a_tensor_that_is_not_mentioned_keeps_its_statistics_usable(method: Method) -> None:
    """Its statistics stay in the form of one contribution while the model counts two."""
    base, tuned = random_models(2)
    merge = merge_all(method, base, tuned[:1])
    name = "block.0.up.bias"
    totals = method.advance(merge.totals, {"delta_sq": 1.0, "merge_sq": 2.0}, 1.0)
    exported = method.export(spec_of(name, base[name]), merge.statistics[name], base[name], totals)
    direction = exported - base[name]
    expected = merge.export()[name] - base[name]
    assert torch.nn.functional.cosine_similarity(direction, expected, dim=0) > 1 - 1e-6
    silent = method.ignores_untouched
    assert silent or "first" not in merge.statistics[name] or not torch.equal(exported, tuned[0][name])


def test_two_merges_combine_to_the_pooled_one(method: Method) -> None:
    if method.combine is None:
        assert not method.combinable
        return
    base, tuned = random_models(5)
    pooled = merge_all(method, base, tuned)
    for split in (0, 1, 2, 4):
        left, right = merge_all(method, base, tuned[:split]), merge_all(method, base, tuned[split:])
        for name, tensor in base.items():
            combined = method.combine(
                spec_of(name, tensor), left.statistics.get(name, {}), right.statistics[name], tensor
            )
            whole = method.export(spec_of(name, tensor), combined, tensor, pooled.totals)
            assert torch.allclose(whole, pooled.export()[name], rtol=1e-6, atol=1e-6)


def test_what_was_retracted_was_never_there(method: Method) -> None:
    if method.retract is None:
        assert not method.retractable
        return
    base, tuned = random_models(4)
    for gone in range(4):
        merge = merge_all(method, base, tuned)
        never = merge_all(method, base, tuned[:gone] + tuned[gone + 1 :])
        for name, tensor in base.items():
            arrived = incoming(tensor, tuned[gone][name])
            left = method.retract(spec_of(name, tensor), merge.statistics[name], tensor, arrived)
            without = method.export(spec_of(name, tensor), left.statistics, tensor, never.totals)
            assert torch.allclose(without, never.export()[name], rtol=1e-6, atol=1e-6)
            assert left.sums["merge_sq"] == pytest.approx(never.last_sums[name]["merge_sq"], rel=1e-5)


def test_order_does_not_matter_where_it_is_said_not_to(method: Method) -> None:
    if not method.commutative:
        return
    base, tuned = random_models(4)
    forwards, backwards = merge_all(method, base, tuned).export(), merge_all(method, base, tuned[::-1]).export()
    for name, tensor in forwards.items():
        assert torch.allclose(tensor, backwards[name], rtol=1e-6, atol=1e-6)


def test_statistics_are_as_large_as_stated(method: Method) -> None:
    base, tuned = random_models(5, dtype=torch.bfloat16)
    merge = merge_all(method, base, tuned)
    for name, tensor in base.items():
        stated = method.state_factor(spec_of(name, tensor)) * 4 * tensor.numel()
        stored = sum(statistic.nbytes for statistic in merge.statistics[name].values())
        assert stored <= stated + 1e-6
        assert stored >= 0.9 * stated or method.name == "tsvm"  # which keeps whole triplets only


def test_working_memory_is_stated_for_every_tensor(method: Method) -> None:
    for name, tensor in random_models(0)[0].items():
        assert method.working_bytes(spec_of(name, tensor)) > 0


def test_what_can_be_combined_or_taken_back_says_how_its_totals_follow(method: Method) -> None:
    assert (method.pool is not None) == method.combinable
    assert (method.withdraw is not None) == (method.retractable or method.idempotent)


def test_what_is_in_both_merges_counts_once_where_it_is_said_to(method: Method) -> None:
    if not method.idempotent:
        return
    assert method.combine is not None
    base, tuned = random_models(4)
    left, right = merge_all(method, base, tuned[:3]), merge_all(method, base, tuned[1:])
    pooled = merge_all(method, base, tuned)
    for name, tensor in base.items():
        combined = method.combine(spec_of(name, tensor), left.statistics[name], right.statistics[name], tensor)
        assert identical(combined, pooled.statistics[name])


def test_totals_come_back_when_a_contribution_leaves_and_add_up_when_merges_meet(method: Method) -> None:
    sums = {"delta_sq": 4.0, "kept_sq": 4.0, "merge_sq": 9.0, "dot": 1.0}
    one = method.advance({}, sums, 2.0)
    two = method.advance(one, {**sums, "delta_sq": 9.0}, 0.5)
    if method.withdraw is not None:
        assert method.withdraw(two, {**sums, "delta_sq": 9.0}, 0.5) == one
        assert method.withdraw(one, sums, 2.0) == {}
    if method.pool is not None:
        pooled = method.pool(one, method.advance({}, {**sums, "delta_sq": 9.0}, 0.5))
        assert {**pooled, "merge_sq": 9.0} == two
        assert method.pool({}, one) == method.pool(one, {}) == one


def test_without_use_for_totals_the_export_is_a_function_of_the_statistics(method: Method) -> None:
    base, tuned = random_models(3)
    merge = merge_all(method, base, tuned)
    other = {name: value * 3.0 + 1.0 for name, value in merge.totals.items()}
    for name, tensor in base.items():
        spec, statistics = spec_of(name, tensor), merge.statistics[name]
        if not method.uses_totals(spec):
            published = [method.export(spec, statistics, widened(tensor), totals) for totals in (merge.totals, other)]
            assert torch.equal(*published)


def test_its_statistics_have_a_layout_that_it_declares(method: Method) -> None:
    """Whatever folds, retractions and combinations lead to; values are not below what is declared."""
    if not method.combinable:
        assert method.layouts(TensorSpec("w", DType.F32, (4, 4))) == ()
        return
    base, tuned = random_models(4)
    one, other = merge_all(method, base, tuned[:2]), merge_all(method, base, tuned[2:])
    adapters = Merge(method, base)
    adapters.fold(tuned[0], dense=False)
    states = [one, other, merge_all(method, base, tuned[:1]), merge_all(method, base, [base]), adapters]
    for name, tensor in base.items():
        spec = spec_of(name, tensor)
        found = [state.statistics[name] for state in states]
        assert method.combine is not None
        found.append(method.combine(spec, found[0], found[1], widened(tensor)))
        if method.retract is not None:
            found.append(method.retract(spec, found[0], widened(tensor), incoming(tensor, tuned[0][name])).statistics)
        for statistics in found:
            assert_declared(method, spec, statistics)


def assert_declared(method: Method, spec: TensorSpec, statistics: Statistics) -> None:
    if not statistics:
        return
    shapes = {key: tuple(value.shape) for key, value in statistics.items()}
    layout = fitting(method.layouts(spec), shapes, spec)
    assert layout is not None, f"{spec.name}: {shapes}"
    for key, stored in layout.items():
        assert (statistics[key].dtype is torch.int16) == stored.votes
        least = 0 if stored.votes else stored.least
        assert least is None or not statistics[key].numel() or float(statistics[key].min()) >= least


def test_what_no_merge_has_fits_no_layout(method: Method) -> None:
    spec = TensorSpec("block.0.up.weight", DType.F32, (40, 16))
    for shapes in ({}, {"first": (40, 15)}, {"first": (40, 16), "sum": (40, 16)}, {"evil": (40, 16)}):
        assert fitting(method.layouts(spec), shapes, spec) is None
