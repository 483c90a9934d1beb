"""Peak memory of folds in processes of their own: bounded, the same for ever, and never above the limit."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch

from tests.memory.conftest import TWELVE_LAYERS, suggested
from tests.support.measured_fold import MIB, Runner
from tests.support.models import fine_tune, write_model

Measure = Callable[..., dict[str, Any]]
LARGEST_FP32 = 4 * 4096 * 384
"""Bytes of the largest tensor, the output head, in float32."""
FEW_PROJECTED = {"exclude": ["*embed*", "*gate_proj*", "*up_proj*", "*k_proj*", "*v_proj*", "*o_proj*"]}
"""Two matrices of a layer and the output head are still projected: the long test takes a third of the time."""


@pytest.mark.slow
@pytest.mark.parametrize(("method", "options"), [("average", {}), ("opcm", FEW_PROJECTED)])
def test_twenty_contributions_take_what_two_take(measure: Measure, method: str, options: dict[str, object]) -> None:
    peaks = measure("two", method, 20, options=options)["anonymous"]
    assert len(peaks) == 20
    # The median of three: how many steps are in flight at the same time differs from fold to fold.
    early, late = median(peaks[1:4]), median(peaks[17:])
    assert abs(late - early) <= 0.05 * early, peaks
    assert max(peaks) <= 10 * LARGEST_FP32 + 250 * MIB


@pytest.mark.parametrize(("method", "options"), [("average", {}), ("opcm", FEW_PROJECTED)])
def test_twice_the_layers_take_the_same(measure: Measure, method: str, options: dict[str, object]) -> None:
    two, four = (median(measure(suite, method, 4, options=options)["anonymous"][1:]) for suite in ("two", "four"))
    assert abs(four - two) <= 0.05 * two


@pytest.mark.parametrize("method", ["average", "opcm"])
@pytest.mark.parametrize("threads", [1, 4])
def test_the_least_limit_is_kept_fold_after_fold(measure: Measure, method: str, threads: int) -> None:
    """Refused with a number; at that number it works, again and again, and never takes more."""
    refused = measure("two", method, 1, limit=16 * MIB)
    assert refused["error"] == "FatalError" and refused["anonymous"] == []
    assert "lm_head.weight" in refused["message"] or method == "average"
    limit = suggested(refused)
    found = measure("two", method, 4, limit=limit, threads=threads)
    assert "error" not in found, found
    assert len(found["resident"]) == 4
    assert found["planned"] <= limit
    assert max(found["resident"]) <= limit


@pytest.mark.parametrize("extra", [8, 64])
def test_a_limit_with_room_is_kept_too(measure: Measure, extra: int) -> None:
    limit = suggested(measure("two", "opcm", 1, limit=16 * MIB)) + extra * MIB
    found = measure("two", "opcm", 2, limit=limit, threads=4)
    assert max(found["resident"]) <= limit


@pytest.mark.parametrize("method", ["average", "opcm"])
def test_a_merge_of_many_keeps_the_least_limit(measure: Measure, method: str) -> None:
    limit = suggested(measure("two", method, 3, limit=16 * MIB, merge=True))
    found = measure("two", method, 3, limit=limit, merge=True)
    assert "error" not in found, found
    assert max(found["resident"]) <= limit


@pytest.mark.parametrize("method", ["average", "opcm"])
def test_an_adapter_is_never_a_dense_model(measure: Measure, method: str) -> None:
    """What is held beside the process is smaller than the adapter's update of the whole model would be."""
    dense = 4 * TWELVE_LAYERS.layers * (4 * 384 * 384 + 3 * 384 * 1024)
    limit = suggested(measure("twelve", method, 1, limit=16 * MIB))
    found = measure("twelve", method, 2, model="adapter-1", limit=limit)
    assert "error" not in found, found
    assert max(found["resident"]) <= limit
    assert max(found["anonymous"]) - found["before"] < 0.6 * dense


@pytest.mark.parametrize("variant", ["block", "paper"])
@pytest.mark.parametrize("shape", [(768, 768), (256, 3072)])
def test_a_projection_holds_no_more_than_was_planned(
    runner: Runner, tmp_path: Path, variant: str, shape: tuple[int, int]
) -> None:
    """One matrix that is nearly all of the model: what a fold holds beside the process is the planned need at most."""
    draw = torch.Generator().manual_seed(0)
    base = {"proj.weight": torch.randn(shape, generator=draw, dtype=torch.bfloat16)}
    job = {
        "base": str(write_model(tmp_path / "base", base)),
        "models": [str(write_model(tmp_path / f"{n}", fine_tune(base, n))) for n in (1, 2, 3)],
        "method": "opcm", "options": {"variant": variant}, "work": str(tmp_path),
    }  # fmt: skip
    refusal = runner.run(**job, memory_limit=16 * MIB)
    planned = re.search(r"it needs (\d+) MiB", refusal["message"])
    assert planned is not None
    found = runner.run(**job, memory_limit=2048 * MIB)
    held = found["anonymous"][2] - found["before"]
    assert held <= (int(planned[1]) + 16) * MIB  # allocators keep a little
    assert held >= 0.4 * int(planned[1]) * MIB  # and the plan is no wild guess
