"""The average is the average."""

from __future__ import annotations

import pytest
import torch

from mergenode.errors import FatalError
from mergenode.methods import build_method
from tests.support.method_runs import Merge, merge_all, random_models


def test_equal_weights_give_the_mean_of_the_models() -> None:
    base, tuned = random_models(5)
    exported = merge_all(build_method("average", {}), base, tuned).export()
    for name in base:
        mean = torch.stack([model[name].double() for model in tuned]).mean(dim=0)
        assert torch.allclose(exported[name].double(), mean, atol=1e-6)


def test_weights_count() -> None:
    base, tuned = random_models(3)
    merge = Merge(build_method("average", {}), base)
    shares = (0.5, 2.0, 1.5)
    for model, share in zip(tuned, shares, strict=True):
        merge.fold(model, share)
    for name, exported in merge.export().items():
        mean = sum(model[name].double() * share for model, share in zip(tuned, shares, strict=True)) / sum(shares)
        assert torch.allclose(exported.double(), mean, atol=1e-6)


@pytest.mark.parametrize("share", [0.25, 3.0])
def test_the_weight_of_a_single_contribution_does_not_matter(share: float) -> None:
    base, tuned = random_models(1)
    merge = Merge(build_method("average", {}), base)
    merge.fold(tuned[0], share)
    for name, exported in merge.export().items():
        assert torch.allclose(exported, tuned[0][name], atol=1e-6)


def test_weights_that_cancel_are_refused() -> None:
    base, tuned = random_models(2)
    merge = Merge(build_method("average", {}), base)
    merge.fold(tuned[0], 1.0)
    merge.fold(tuned[1], -1.0)
    with pytest.raises(FatalError, match=r"sum to 0\.0"):
        merge.export()


def test_publishing_needs_no_second_pass() -> None:
    assert not build_method("average", {}).needs_totals
