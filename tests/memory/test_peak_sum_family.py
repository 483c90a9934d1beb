"""Peak memory of the sum family: folds and exports of every method within ten times the largest matrix and 250 MiB."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mergenode.methods import METHODS, build_method
from tests.memory.conftest import suggested
from tests.memory.test_peak import LARGEST_FP32
from tests.support.measured_fold import MIB, Runner
from tests.support.models import fine_tune, write_model

Measure = Callable[..., dict[str, Any]]
FAMILY = [name for name in METHODS if name != "opcm" and not build_method(name, {}).needs]
WHOLE = [name for name in FAMILY if name not in ("average", "task_arithmetic", "magmax")]


@pytest.mark.slow
@pytest.mark.parametrize("method", FAMILY)
def test_folds_and_exports_stay_within_ten_times_the_largest_matrix(measure: Measure, method: str) -> None:
    found = measure("two", method, 3)
    assert "error" not in found, found
    assert max(found["anonymous"]) <= 10 * LARGEST_FP32 + 250 * MIB


@pytest.mark.slow
@pytest.mark.parametrize("method", WHOLE)
def test_the_least_limit_is_kept(measure: Measure, method: str) -> None:
    """Refused with a number, for folds or for exports; at the larger one both work and never take more."""
    limit = suggested(measure("two", method, 1, limit=16 * MIB))
    found = measure("two", method, 3, limit=limit)
    if "hint" in found:
        limit = suggested(found)
        found = measure("two", method, 3, limit=limit)
    assert "error" not in found, found
    assert max(found["resident"]) <= limit


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in WHOLE if name != "widen"])
def test_one_large_table_or_matrix_takes_ten_times_its_size(runner: Runner, tmp_path: Path, method: str) -> None:
    """A square matrix for those that decompose; once the size of an embedding for those that do not."""
    draw = torch.Generator().manual_seed(0)
    sliced = method in ("ties", "dare")
    name, shape = ("embed.weight", (16384, 256)) if sliced else ("proj.weight", (1536, 1536))
    base = {name: torch.randn(shape, generator=draw, dtype=torch.bfloat16)}
    found = runner.run(
        base=str(write_model(tmp_path / "base", base)),
        models=[str(write_model(tmp_path / f"{n}", fine_tune(base, n))) for n in (1, 2, 3)],
        method=method, work=str(tmp_path), memory_limit=2048 * MIB,
    )  # fmt: skip
    assert "error" not in found, found
    held = max(found["anonymous"]) - found["before"]
    assert (
        held <= (1 if sliced else 10) * 4 * shape[0] * shape[1] + (64 + 24) * MIB
    )  # the allocator keeps 64, and BLAS buffers
