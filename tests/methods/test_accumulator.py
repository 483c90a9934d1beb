"""One contribution comes back bit for bit, whatever the gap between its exponents and those of the base."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.methods import build_method
from mergenode.methods.accumulator import combine_sums, export_scaled, fold_sum, retract_sum, running_sum
from mergenode.methods.contract import Incoming
from tests.support.method_runs import merge_all, random_models, weight, widened

NARROW = [torch.float32, torch.float16, torch.bfloat16]


@pytest.mark.parametrize("name", ["opcm", "average"])
@pytest.mark.parametrize("dtype", [*NARROW, torch.float64])
def test_a_single_contribution_is_returned_bit_for_bit(name: str, dtype: torch.dtype) -> None:
    base, tuned = random_models(1, dtype=dtype)
    exported = merge_all(build_method(name, {}), base, tuned).export()
    for key, tensor in tuned[0].items():
        assert torch.equal(exported[key].to(dtype), tensor)


@pytest.mark.parametrize("name", ["opcm", "average"])
@pytest.mark.parametrize("dtype", NARROW)
def test_tiny_tuned_values_beside_a_large_base(name: str, dtype: torch.dtype) -> None:
    """``base + (tuned - base)`` loses them: that is why the first contribution is kept as it is."""
    base = {"layer.weight": weight(6, 8, seed=1, scale=1e3, dtype=dtype)}
    tuned = {"layer.weight": weight(6, 8, seed=2, scale=1e-5, dtype=dtype)}
    delta = widened(tuned["layer.weight"]) - widened(base["layer.weight"])
    assert not torch.equal((widened(base["layer.weight"]) + delta).to(dtype), tuned["layer.weight"])
    exported = merge_all(build_method(name, {}), base, [tuned]).export()
    assert torch.equal(exported["layer.weight"].to(dtype), tuned["layer.weight"])


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.floats(width=32, allow_nan=False, allow_infinity=False), st.floats(-1e30, 1e30)), min_size=1)
)
def test_any_float32_comes_back(pairs: list[tuple[float, float]]) -> None:
    tuned = torch.tensor([pair[0] for pair in pairs])
    base = torch.tensor([pair[1] for pair in pairs])
    folded = fold_sum({}, base, Incoming(tuned - base, tuned))
    assert torch.equal(export_scaled(folded.statistics, base, 1.0, keep_first=True), tuned)


def test_the_three_states_have_the_same_value() -> None:
    base, tuned = weight(50, seed=1), weight(50, seed=2)
    delta = tuned - base
    kept = fold_sum({}, base, Incoming(delta, tuned)).statistics
    summed = fold_sum({}, base, Incoming(delta)).statistics
    assert (set(kept), set(summed)) == ({"first"}, {"sum"})
    assert torch.equal(running_sum(kept, base), delta)
    assert torch.equal(running_sum(summed, base), delta)
    assert torch.equal(running_sum({}, base), torch.zeros(50))


def test_the_second_contribution_joins_the_first() -> None:
    base = weight(50, seed=1)
    first, second = weight(50, seed=2), weight(50, seed=3)
    kept = fold_sum({}, base, Incoming(first - base, first)).statistics
    folded = fold_sum(kept, base, Incoming(second - base, second))
    assert torch.equal(folded.statistics["sum"], (first - base) + (second - base))


def test_statistics_do_not_share_memory_with_what_came_in() -> None:
    base, tuned = weight(50, seed=1), weight(50, seed=2)
    delta = tuned - base
    for arrived in (Incoming(delta, tuned), Incoming(delta)):
        (kept,) = fold_sum({}, base, arrived).statistics.values()
        assert kept.data_ptr() not in (tuned.data_ptr(), delta.data_ptr())


def test_tuned_weights_of_another_dtype_are_widened() -> None:
    base, tuned = weight(50, seed=1), weight(50, seed=2, dtype=torch.bfloat16)
    kept = fold_sum({}, base, Incoming(tuned.float() - base, tuned)).statistics["first"]
    assert kept.dtype == torch.float32
    assert torch.equal(kept, tuned.float())


def test_combining_with_nothing_changes_nothing() -> None:
    base, tuned = weight(50, seed=1), weight(50, seed=2)
    kept = fold_sum({}, base, Incoming(tuned - base, tuned)).statistics
    assert combine_sums(kept, {}, base) == kept
    assert combine_sums({}, kept, base) == kept
    assert combine_sums({}, {}, base) == {}


def test_retracting_the_only_contribution_leaves_zero() -> None:
    base, tuned = weight(50, seed=1), weight(50, seed=2)
    arrived = Incoming(tuned - base, tuned)
    left = retract_sum(fold_sum({}, base, arrived).statistics, base, arrived)
    assert not running_sum(left.statistics, base).any()
    assert left.sums["merge_sq"] == 0.0
    assert torch.equal(export_scaled(left.statistics, base, 0.5, keep_first=False), base)
