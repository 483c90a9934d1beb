"""Task arithmetic (arXiv 2212.04089): one scale times the sum of task vectors."""

from __future__ import annotations

import pytest
import torch

from mergenode.errors import UsageError
from mergenode.methods import build_method
from tests.support.method_runs import Merge, merge_all, random_models


@pytest.mark.parametrize("scale", [0.0, 0.1, 0.3, 1.0, -1.0])
def test_section_2_base_plus_scaled_sum(scale: float) -> None:
    base, tuned = random_models(4)
    exported = merge_all(build_method("task_arithmetic", {"scale": scale}), base, tuned).export()
    for name in base:
        total = sum(model[name].double() - base[name].double() for model in tuned)
        assert torch.allclose(exported[name].double(), base[name].double() + scale * total, atol=1e-6)


def test_negation_forgets_a_task() -> None:
    """Folding with weight -1 what was folded with weight 1 leads back to the base."""
    base, tuned = random_models(1)
    merge = Merge(build_method("task_arithmetic", {}), base)
    merge.fold(tuned[0], 1.0)
    merge.fold(tuned[0], -1.0)
    for name, exported in merge.export().items():
        assert torch.equal(exported, base[name])


def test_the_default_scale_is_that_of_eight_tasks() -> None:
    assert build_method("task_arithmetic", {}).options == {"scale": 0.3, "profile": {}}


def test_a_single_contribution_is_scaled_too() -> None:
    base, tuned = random_models(1)
    exported = merge_all(build_method("task_arithmetic", {"scale": 0.5}), base, tuned).export()
    for name in base:
        assert torch.allclose(exported[name], (base[name] + tuned[0][name]) / 2, atol=1e-6)


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), "0.3", True, None])
def test_a_scale_that_is_no_number_is_refused(scale: object) -> None:
    with pytest.raises(UsageError, match="'scale'") as caught:
        build_method("task_arithmetic", {"scale": scale})
    assert "Give a number from -1000000 to 1000000" in caught.value.hint
