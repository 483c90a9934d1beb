"""The slope along a task vector against the sums that it stands for, and trials against published versions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mergenode.adapters.engines.local.slope import slope_along
from mergenode.adapters.engines.local.trial import write_trial
from mergenode.errors import TransientError, TransientReason
from mergenode.types import Candidate
from tests.support.checkpoints import Tensors, base_tensors, finetuned, write_sharded, write_single
from tests.support.local_node import SILENT, LocalNode, load_model


def gradient_of(base: Tensors, path: Path, *, alias: bool = False) -> Tensors:
    """A gradient of every float tensor but one, tied ones once; written to ``path``."""
    draw = torch.Generator().manual_seed(3)
    names = [name for name, tensor in base.items() if tensor.is_floating_point() and name != "model.norm.weight"]
    names.remove("model.embed_tokens.weight" if alias else "lm_head.weight")
    gradient = {name: torch.randn(base[name].shape, generator=draw) for name in names}
    save_file(gradient, path)
    return gradient


@pytest.mark.parametrize("alias", [False, True])
def test_it_is_the_inner_product_over_every_weight_once(tmp_path: Path, alias: bool) -> None:
    base = base_tensors()
    node = LocalNode(tmp_path, write_sharded(tmp_path / "base", base), "task_arithmetic", {"scale": 1.0})
    tuned = finetuned(base)
    gradient = gradient_of(base, tmp_path / "gradient.safetensors", alias=alias)
    path = write_single(tmp_path / "tuned", tuned)
    candidate = Candidate("inbox", "tuned", "1", str(path), weight=3.0)
    found = slope_along(node.engine, candidate, tmp_path / "gradient.safetensors")

    names = [name for name in base if base[name].is_floating_point() and name != "lm_head.weight"]
    deltas = {name: tuned[name].float().double() - base[name].float().double() for name in names}
    slopes = {("model.embed_tokens.weight" if name == "lm_head.weight" else name): g for name, g in gradient.items()}
    assert found.inner == pytest.approx(sum(float((deltas[n] * slopes[n].double()).sum()) for n in slopes), rel=1e-6)
    assert found.gradient_norm == pytest.approx(sum(float(g.double().square().sum()) for g in slopes.values()) ** 0.5)
    assert found.delta_norm == pytest.approx(sum(float(d.square().sum()) for d in deltas.values()) ** 0.5, rel=1e-6)


def test_a_gradient_that_is_none_is_the_plug_ins_failure(tmp_path: Path) -> None:
    node = LocalNode(tmp_path, write_single(tmp_path / "base", base_tensors()))
    path = write_single(tmp_path / "tuned", finetuned(base_tensors()))
    (tmp_path / "gradient.safetensors").write_bytes(b"half")
    with pytest.raises(TransientError) as raised:
        slope_along(node.engine, Candidate("inbox", "tuned", "1", str(path)), tmp_path / "gradient.safetensors")
    assert raised.value.reason is TransientReason.TASK_FAILED


@pytest.mark.parametrize("method", ["opcm", "ties"])
def test_a_trial_is_what_would_be_published(tmp_path: Path, method: str) -> None:
    base = base_tensors()
    node = LocalNode(tmp_path, write_sharded(tmp_path / "base", base), method)
    node.fold(write_single(tmp_path / "a", finetuned(base, seed=1)))
    path = write_single(tmp_path / "b", finetuned(base, seed=2))
    result = node.engine.fold(Candidate("inbox", "b", "1", str(path)), node.head, SILENT)
    target = tmp_path / "trials" / "would-be"
    target.mkdir(parents=True)
    (target / "left.safetensors").write_bytes(b"of a kill")
    assert write_trial(node.engine, node.engine.folding, result.totals, target, SILENT, "trial") == target
    assert (target / "config.json").read_bytes() == (tmp_path / "base" / "config.json").read_bytes()
    assert [path.name for path in target.parent.iterdir()] == ["would-be"]

    node.fold(path)
    published = node.published(tmp_path / "version")
    trial = load_model(target)
    assert trial.keys() == published.keys()
    assert all(torch.equal(trial[name], published[name]) for name in published)
    assert load_file(next(target.glob("*.safetensors")))
