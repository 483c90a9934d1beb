"""Values that no merge survives: the right reason, the right place, and nothing left behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mergenode.bootstrap.one_shot import MergeRequest, merge_once
from mergenode.errors import RejectedError, RejectReason
from tests.support.local_node import AMPLE, SILENT, LocalNode, merge
from tests.support.models import Tensors, factors, fine_tune, random_base, write_lora, write_model

UP = "layers.0.mlp.up_proj.weight"
EXACT = "layers.1.exact.weight"
R = RejectReason


def _set(name: str, value: float) -> Callable[[Tensors], None]:
    def edit(tensors: Tensors) -> None:
        tensors[name] = tensors[name].clone()
        tensors[name].view(-1)[-1] = value

    return edit


def _overflowing_difference(tensors: Tensors) -> None:
    """Finite in float32, but too far from the base (``-3e38``, see below) for a float32 difference."""
    _set("layers.0.attn.q_proj.weight", 3e38)(tensors)


def _norms_that_only_overflow_together(tensors: Tensors) -> None:
    """Each tensor's squared norm is finite in float64, their sum is not."""
    for name in (EXACT, "layers.1.exact.bias"):
        _set(name, 1.2e154)(tensors)


BAD = {
    "nan": (_set(UP, float("nan")), R.NOT_FINITE, UP),
    "infinity": (_set(UP, float("-inf")), R.NOT_FINITE, UP),
    "nan in a summed tensor": (_set("layers.0.norm.weight", float("nan")), R.NOT_FINITE, "layers.0.norm.weight"),
    "nan in a scalar": (_set("vision.scale", float("nan")), R.NOT_FINITE, "vision.scale"),
    "the difference overflows": (_overflowing_difference, R.NOT_FINITE, "layers.0.attn.q_proj.weight"),
    "the norm overflows": (_set(EXACT, 1e200), R.NORM_TOO_LARGE, EXACT),
    "the norms overflow together": (_norms_that_only_overflow_together, R.NORM_TOO_LARGE, ""),
}


@pytest.fixture
def extreme_base() -> Tensors:
    base = random_base()
    base["layers.0.attn.q_proj.weight"].view(-1)[-1] = -3e38
    return base


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("folded_before", [0, 2])
@pytest.mark.parametrize("method", ["opcm", "average"])
def test_the_reason_the_place_and_nothing_left_behind(
    tmp_path: Path, extreme_base: Tensors, case: str, folded_before: int, method: str
) -> None:
    edit, reason, place = BAD[case]
    node = LocalNode(tmp_path, write_model(tmp_path / "base", extreme_base), method)
    for number in range(folded_before):
        good = fine_tune(extreme_base, number)
        node.fold(write_model(tmp_path / f"good-{number}", good))
    files = {path: path.read_bytes() for path in node.generations.statistics.rglob("*") if path.is_file()}
    opened = descriptors()
    tuned = fine_tune(extreme_base, 9)
    edit(tuned)
    bad = write_model(tmp_path / "bad", tuned)
    with pytest.raises(RejectedError) as caught:
        node.fold(bad)
    assert caught.value.reason is reason
    assert place in caught.value.message
    assert not place or "model.safetensors" in caught.value.message
    assert caught.value.hint
    assert descriptors() == opened
    assert {path: path.read_bytes() for path in node.generations.statistics.rglob("*") if path.is_file()} == files
    node.fold(write_model(tmp_path / "after", fine_tune(extreme_base, 10)))
    assert node.head.count == folded_before + 1


def test_a_difference_that_overflows_is_not_told_as_a_damaged_file(tmp_path: Path, extreme_base: Tensors) -> None:
    node = LocalNode(tmp_path, write_model(tmp_path / "base", extreme_base))
    tuned = fine_tune(extreme_base, 1)
    _overflowing_difference(tuned)
    with pytest.raises(RejectedError, match="every value is finite") as caught:
        node.fold(write_model(tmp_path / "bad", tuned))
    assert "layers.0.attn.q_proj.weight" in caught.value.message


@pytest.mark.parametrize("method", ["opcm", "average", "ties", "dare"])
@pytest.mark.parametrize("kind", ["full", "lora"])
def test_a_weight_that_makes_the_values_too_large_is_named(tmp_path: Path, method: str, kind: str) -> None:
    base = {"layers.0.attn.q_proj.weight": random_base(dtype=torch.float32)["layers.0.attn.q_proj.weight"]}
    node = LocalNode(tmp_path, write_model(tmp_path / "base", base), method)
    pairs = factors(["layers.0.attn.q_proj"], {"layers.0.attn.q_proj.weight": (32, 32)}, 1)
    tuned = write_lora(tmp_path / "a", pairs) if kind == "lora" else write_model(tmp_path / "a", fine_tune(base, 1))
    with pytest.raises(RejectedError, match=r"layers\.0\.attn\.q_proj\.weight' times its weight of 1e\+200 ") as caught:
        node.fold(tuned, 1e200)
    assert "a smaller one" in caught.value.hint and "diverged" not in caught.value.hint
    assert caught.value.reason is R.NOT_FINITE


@pytest.mark.parametrize(("side", "value"), [("A", float("nan")), ("B", float("inf"))])
def test_the_factor_that_holds_the_value_is_named(tmp_path: Path, side: str, value: float) -> None:
    base = random_base()
    node = LocalNode(tmp_path, write_model(tmp_path / "base", base))
    pairs = factors(["layers.0.attn.q_proj"], {"layers.0.attn.q_proj.weight": (32, 32)}, 1)
    name = f"base_model.model.layers.0.attn.q_proj.lora_{side}.weight"
    pairs[name][1, 1] = value
    with pytest.raises(RejectedError) as caught:
        node.fold(write_lora(tmp_path / "lora", pairs))
    assert caught.value.reason is R.NOT_FINITE
    assert name in caught.value.message
    assert "adapter_model.safetensors" in caught.value.message


def test_factors_whose_product_overflows(tmp_path: Path) -> None:
    base = random_base()
    node = LocalNode(tmp_path, write_model(tmp_path / "base", base))
    pairs = factors(["layers.0.attn.q_proj"], {"layers.0.attn.q_proj.weight": (32, 32)}, 1, std=1e25)
    with pytest.raises(RejectedError, match="every value is finite") as caught:
        node.fold(write_lora(tmp_path / "lora", pairs))
    assert caught.value.reason is R.NOT_FINITE


@pytest.mark.parametrize("method", ["opcm", "average", "task_arithmetic"])
@pytest.mark.parametrize("case", ["nan", "the norms overflow together", "copy", "other base"])
def test_a_refused_model_ends_a_merge_without_output(
    tmp_path: Path, extreme_base: Tensors, method: str, case: str
) -> None:
    base = write_model(tmp_path / "base", extreme_base)
    good = write_model(tmp_path / "good", fine_tune(extreme_base, 1))
    if case == "copy":
        bad, reason = write_model(tmp_path / "bad", extreme_base), R.EMPTY_DELTA
    elif case == "other base":
        bad, reason = write_model(tmp_path / "bad", random_base(5)), R.OTHER_BASE
    else:
        tuned = fine_tune(extreme_base, 2)
        BAD[case][0](tuned)
        bad, reason = write_model(tmp_path / "bad", tuned), BAD[case][1]
    opened = descriptors()
    if case == "other base":  # judged by the limit on norms
        small = write_model(tmp_path / "small-base", random_base())
        good = write_model(tmp_path / "small-good", fine_tune(random_base(), 1))
        request = MergeRequest(
            base=small, output=tmp_path / "out", models=[(good, 1.0), (bad, 1.0)], method=method, options={},
            dtype=None, resources=AMPLE, max_relative_norm=0.95,
        )  # fmt: skip
        with pytest.raises(RejectedError) as caught:
            merge_once(request, SILENT)
    else:
        with pytest.raises(RejectedError) as caught:
            merge(base, tmp_path / "out", [good, bad], method=method)
    assert caught.value.reason is reason
    assert "bad" in caught.value.message
    assert descriptors() == opened
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def test_an_untouched_copy_has_no_norm(tmp_path: Path) -> None:
    base = random_base()
    node = LocalNode(tmp_path, write_model(tmp_path / "base", base))
    result = node.fold(write_model(tmp_path / "copy", base))
    assert result.norm == 0.0 and result.relative_norm == 0.0
    published = node.published(tmp_path / "out")
    assert all(torch.equal(published[name], base[name]) for name in base)


def test_a_base_without_weights_to_merge(tmp_path: Path) -> None:
    """Nothing but integers: every contribution is an empty one, not a crash."""
    base = {"ids": torch.arange(4)}
    node = LocalNode(tmp_path, write_model(tmp_path / "base", base))
    assert node.fold(write_model(tmp_path / "tuned", {"ids": torch.arange(4) + 1})).norm == 0.0
