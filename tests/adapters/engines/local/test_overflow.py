"""Factors that no update stands: called off with the reason, before anything says that there is a version."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mergenode.errors import RejectedError, UsageError
from tests.support.local_node import LocalNode, merge
from tests.support.models import fine_tune, random_base, write_model
from tests.support.real_node import RealNode

BEYOND = {"*" * stars: 1e6 for stars in range(1, 9)}
"""Each factor is allowed, their product 1e48 is not a float32."""


def models(root: Path, count: int = 1) -> tuple[Path, list[Path]]:
    base = random_base(dtype=torch.float32)
    tuned = [write_model(root / f"tuned-{seed}", fine_tune(base, seed)) for seed in range(count)]
    return write_model(root / "base", base), tuned


@pytest.mark.parametrize("scale", ["own", "norm_match"])
@pytest.mark.parametrize("method", ["iso", "ties", "task_arithmetic"])
def test_an_export_says_tensor_method_and_factors(tmp_path: Path, method: str, scale: str) -> None:
    base, (tuned,) = models(tmp_path)
    node = LocalNode(tmp_path / "node", base, method, {"profile": BEYOND, "scale": scale})
    node.fold(tuned)
    with pytest.raises(UsageError, match=rf"tensor '.+' of the merge is not finite.* method {method}, scale") as caught:
        node.export(tmp_path / "out")
    assert "factor 1e+48 by profile" in caught.value.message and "profile" in caught.value.hint


@pytest.mark.parametrize("scale", ["own", "norm_match"], ids=["one pass", "through statistics"])
def test_a_merge_has_no_output(tmp_path: Path, scale: str) -> None:
    base, tuned = models(tmp_path)
    with pytest.raises(UsageError, match="not finite"):
        merge(base, tmp_path / "out", tuned, method="iso", profile=BEYOND, scale=scale)
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize("scale", ["own", "norm_match"], ids=["one pass", "through statistics"])
def test_a_model_that_holds_nothing_is_told_before_the_factors(tmp_path: Path, scale: str) -> None:
    base, tuned = models(tmp_path)
    with pytest.raises(RejectedError, match="base: every merged weight equals the base"):
        merge(base, tmp_path / "out", [*tuned, base], method="iso", profile=BEYOND, scale=scale)


def test_a_node_ends_instead_of_trying_for_ever(tmp_path: Path) -> None:
    node = RealNode(tmp_path, method={"name": "iso", "profile": BEYOND})
    node.put("a", 1)
    with pytest.raises(UsageError, match="is not finite"):
        node.run_once()
    assert node.outcomes() == {"a": ["folded"]}
    assert not list(node.published.glob("*/mergenode.json"))
