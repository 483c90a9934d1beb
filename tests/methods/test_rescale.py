"""One merge at several scales: M read off an export, the norm rule, the words for scales."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.errors import UsageError
from mergenode.maths.distance import squared_distance
from mergenode.methods import METHODS, build_method
from mergenode.methods.rescale import (
    MAGNIFICATION,
    asked_scale,
    at_scale,
    is_chosen_later,
    mean_norm,
    merged_update,
    norm_rule,
    scale_in_use,
    takes_scale,
)
from tests.support.method_runs import Merge, merge_all, random_models, spec_of, widened

SCALED = [name for name in METHODS if takes_scale(build_method(name, {})) and not build_method(name, {}).needs]
"""Methods with a scale that weights alone are enough for."""


def updates(merge: Merge) -> dict[str, torch.Tensor]:
    """M of every tensor."""
    large = at_scale(merge.method, MAGNIFICATION)
    return {
        name: merged_update(large, spec_of(name, base), merge.statistics[name], widened(base), merge.totals)
        for name, base in merge.base.items()
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", SCALED)
def test_every_export_is_linear_in_the_scale(name: str, dtype: torch.dtype) -> None:
    base, tuned = random_models(3, seed=5, dtype=dtype, drift=1e-3)
    merge = merge_all(build_method(name, {"profile": {"*.up.*": 0.5}}), base, tuned)
    found = updates(merge)
    eps = torch.finfo(widened(base["norm.weight"]).dtype).eps
    for scale in (0.0, 0.37, 1.0, 2.5):
        merge.method = at_scale(merge.method, scale)
        for tensor, exported in merge.export().items():
            wide = widened(base[tensor]).double()
            again = wide + scale * found[tensor].double()
            size = float((wide.abs() + abs(scale) * found[tensor].abs()).max()) if wide.numel() else 0.0
            assert torch.allclose(exported.double(), again, rtol=0, atol=2 * eps * size), tensor


@pytest.mark.parametrize("name", SCALED)
def test_what_rounding_did_to_the_base_does_not_show_in_the_update(name: str) -> None:
    """Small updates of large weights: read off an export at scale 1, M would be wrong by percents."""
    base, tuned = random_models(2, seed=8, drift=1e-5)
    merge = merge_all(build_method(name, {}), base, tuned)
    there = dict(merge.statistics)
    small = updates(merge)["block.0.square.weight"]
    far = merge.base["block.0.square.weight"] * 100
    merge.base = {**base, "block.0.square.weight": far}
    if "first" not in there["block.0.square.weight"]:
        assert torch.allclose(updates(merge)["block.0.square.weight"], small, rtol=1e-6, atol=1e-11)


@pytest.mark.parametrize("name", SCALED)
def test_scales_by_word(name: str) -> None:
    own = build_method(name, {"scale": "own"})
    base, tuned = random_models(2)
    for word in ("norm_match", "evaluate"):
        method = build_method(name, {"scale": word})
        assert is_chosen_later(method) and asked_scale(method) == word
        assert method.options == {**own.options, "scale": word}
        assert scale_in_use(method, {}) == scale_in_use(own, {})
        left, right = merge_all(method, base, tuned).export(), merge_all(own, base, tuned).export()
        assert all(torch.equal(left[tensor], right[tensor]) for tensor in base), "until then it is the own scale"
    assert not is_chosen_later(own)
    assert scale_in_use(at_scale(own, 0.25), {}) == 0.25
    with pytest.raises(UsageError, match="'scale' is 'norm'"):
        build_method(name, {"scale": "norm"})


def test_methods_without_a_scale_choose_it_from_the_totals() -> None:
    base, tuned = random_models(3)
    merge = merge_all(build_method("opcm", {}), base, tuned)
    assert not takes_scale(merge.method) and not is_chosen_later(merge.method)
    scale = scale_in_use(merge.method, merge.totals)
    assert scale == pytest.approx(mean_norm(merge.totals) / sqrt(merge.totals["merge_sq"]))
    moved = sqrt(sum(squared_distance(weights, base[name]) for name, weights in merge.export().items()))
    assert moved == pytest.approx(mean_norm(merge.totals), rel=1e-6)
    assert scale_in_use(merge.method, {"count": 1.0}) == scale_in_use(merge.method, {}) == 1.0
    assert scale_in_use(build_method("average", {}), {"count": 3.0}) == 1.0
    with pytest.raises(UsageError, match="no option 'scale'"):
        at_scale(merge.method, 1.0)


@given(norm=st.floats(1e-150, 1e150), norms=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=9))
@settings(deadline=None, max_examples=50)
def test_the_norm_rule_gives_the_mean_norm(norm: float, norms: list[float]) -> None:
    totals = {"count": float(len(norms)), "norm_sum": sum(norms)}
    scale = norm_rule(totals, norm)
    assert scale is not None and scale * norm == pytest.approx(sum(norms) / len(norms))


@pytest.mark.parametrize(
    ("totals", "norm"),
    [({}, 1.0), ({"count": 0.0}, 1.0), ({"count": 2.0}, 1.0), ({"count": 2.0, "norm_sum": 3.0}, 0.0),
     ({"count": 1.0, "norm_sum": 1e300}, 1e-300)],
)  # fmt: skip
def test_without_a_norm_there_is_no_rule(totals: dict[str, float], norm: float) -> None:
    assert norm_rule(totals, norm) is None
