"""How much of a merge is published: what every export tells, and the norm rule as a choice."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from math import sqrt
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mergenode.adapters.engines.local.engine import Resources
from mergenode.methods import METHODS, build_method
from mergenode.methods.rescale import takes_scale
from mergenode.ports.engine import Stopped
from tests.support.local_node import AMPLE, LocalNode, load_model, merge, same_bits
from tests.support.models import HEAD, factors, fine_tune, random_base, write_lora, write_model

FAMILY = [name for name in METHODS if not build_method(name, {}).needs]
SCALED = [name for name in FAMILY if takes_scale(build_method(name, {}))]


def world(root: Path, *, models: int = 3, dtype: torch.dtype | None = torch.float32) -> tuple[Path, list[Path]]:
    """A base with tied weights, full fine-tunes of different lengths, and an adapter."""
    base = random_base(dtype=dtype)
    tuned = [write_model(root / f"full-{n}", fine_tune(base, n, ratio=0.1 * (n + 1))) for n in range(models - 1)]
    shapes = {name: tuple(tensor.shape) for name, tensor in base.items()}
    pairs = factors(["layers.0.attn.q_proj"], shapes, 1)
    return write_model(root / "base", base), [*tuned, write_lora(root / "lora", pairs)]


def moved(base: Mapping[str, Tensor], published: Mapping[str, Tensor]) -> float:
    """||published - base|| over float tensors, tied ones once."""
    names = [name for name, tensor in base.items() if tensor.is_floating_point() and name != HEAD]
    return sqrt(sum(float((published[name].double() - base[name].double()).square().sum()) for name in names))


@pytest.mark.parametrize("method", FAMILY)
def test_every_export_tells_its_scale_and_that_of_the_norm_rule(tmp_path: Path, method: str) -> None:
    base, models = world(tmp_path)
    node = LocalNode(tmp_path / "node", base, method)
    norms = [node.fold(model).norm for model in models]
    exported = node.export(tmp_path / "out")
    told = exported.scale
    assert told.update_norm == pytest.approx(moved(load_model(base), load_model(tmp_path / "out")), rel=1e-5)
    assert told.mean_norm == pytest.approx(sum(norms) / len(norms))
    assert told.norm_rule == pytest.approx(told.mean_norm * told.used / told.update_norm)
    assert told.used == told.own and told.evaluated is None
    if method == "opcm":
        assert told.norm_rule == pytest.approx(told.used, rel=1e-6)
    else:
        assert told.own == {"task_arithmetic": 0.3, "dare": 0.3}.get(method, 1.0)
    manifest = merge(base, tmp_path / "merged", models, method=method)
    for key, value in told.entry().items():
        assert manifest["scale"][key] == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("method", SCALED)
def test_norm_match_gives_the_update_the_mean_norm(tmp_path: Path, method: str) -> None:
    base, models = world(tmp_path)
    nodes = {}
    for word in ("own", "norm_match"):
        node = nodes[word] = LocalNode(tmp_path / word, base, method, {"scale": word})
        for model in models:
            node.fold(model)
    own = nodes["own"].export(tmp_path / "own-out").scale
    told = nodes["norm_match"].export(tmp_path / "out").scale
    assert told.used == told.norm_rule == pytest.approx(own.norm_rule, rel=1e-5)
    assert told.update_norm == pytest.approx(told.mean_norm, rel=1e-6)
    published = load_model(tmp_path / "out")
    assert moved(load_model(base), published) == pytest.approx(told.mean_norm, rel=1e-5)

    given = LocalNode(tmp_path / "given", base, method, {"scale": told.used})
    for model in models:
        given.fold(model)
    for name, tensor in given.published(tmp_path / "given-out").items():
        assert torch.allclose(published[name].double(), tensor.double(), rtol=0, atol=3e-7), name
    merge(base, tmp_path / "merged", models, method=method, scale="norm_match")
    merged = load_model(tmp_path / "merged")
    assert all(same_bits(merged[name], published[name]) for name in published)


@pytest.mark.parametrize("method", ["iso", "aswudi", "ties"])
def test_mixed_types_tied_weights_shards_and_threads(tmp_path: Path, method: str) -> None:
    base = random_base()
    place = write_model(tmp_path / "base", base, shards=3)
    models = [write_model(tmp_path / f"{n}", fine_tune(base, n)) for n in range(3)]
    outcomes = []
    for threads in (1, 3):
        resources = Resources(memory_limit=8 << 30, threads=threads, device="cpu")
        node = LocalNode(tmp_path / f"n{threads}", place, method, {"scale": "norm_match"}, resources)
        for model in models:
            node.fold(model)
        exported = node.export(tmp_path / f"out-{threads}")
        outcomes.append((exported.scale, exported.tensors))
    assert outcomes[0] == outcomes[1]
    published = load_model(tmp_path / "out-1")
    assert torch.equal(published[HEAD], published["model.embed_tokens.weight"])
    for name, tensor in base.items():
        assert published[name].dtype is tensor.dtype
        if not tensor.is_floating_point():
            assert torch.equal(published[name], tensor)


def test_every_matrix_is_decomposed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    iso = sys.modules["mergenode.methods.iso"]  # under its name in the package lies the method
    flatten = iso.flatten_spectrum
    monkeypatch.setattr(iso, "flatten_spectrum", lambda spec, total: (seen.append(spec.name), flatten(spec, total))[1])
    base, models = world(tmp_path)
    node = LocalNode(tmp_path / "node", base, "iso", {"scale": "norm_match"})
    node.fold(models[0])
    node.fold(models[1])
    node.export(tmp_path / "out")
    assert seen and len(seen) == len(set(seen))


def test_one_contribution_keeps_its_norm(tmp_path: Path) -> None:
    base, models = world(tmp_path)
    node = LocalNode(tmp_path / "node", base, "task_arithmetic", {"scale": "norm_match"})
    node.fold(models[0])
    told = node.export(tmp_path / "out").scale
    assert told.used == pytest.approx(1.0, rel=1e-6)
    tuned = load_model(models[0])
    for name, tensor in load_model(tmp_path / "out").items():
        assert torch.allclose(tensor, tuned[name], rtol=0, atol=1e-6)


def test_nothing_folded_is_the_base_at_the_own_scale(tmp_path: Path) -> None:
    base, _ = world(tmp_path)
    for word in ("own", "norm_match"):
        node = LocalNode(tmp_path / word, base, "dare", {"scale": word})
        told = node.export(tmp_path / f"out-{word}").scale
        assert (told.used, told.update_norm, told.norm_rule, told.mean_norm) == (0.3, 0.0, None, None)
        assert all(same_bits(load_model(tmp_path / f"out-{word}")[name], t) for name, t in load_model(base).items())


def test_contributions_that_cancel_are_published_at_the_own_scale(tmp_path: Path) -> None:
    base = {"a.weight": torch.zeros(8, 8), "b": torch.zeros(3)}
    step = {"a.weight": torch.full((8, 8), 0.5), "b": torch.ones(3)}
    node = LocalNode(tmp_path, write_model(tmp_path / "base", base), "task_arithmetic", {"scale": "norm_match"})
    node.fold(write_model(tmp_path / "plus", step))
    node.fold(write_model(tmp_path / "minus", {name: -tensor for name, tensor in step.items()}))
    told = node.export(tmp_path / "out").scale
    assert (told.used, told.norm_rule, told.update_norm) == (0.3, None, 0.0)


@pytest.mark.parametrize("left_over", [False, True])
def test_the_scratch_folder_is_gone_afterwards_however_the_export_ends(tmp_path: Path, left_over: bool) -> None:
    base, models = world(tmp_path)
    node = LocalNode(tmp_path / "node", base, "iso", {"scale": "norm_match"})
    node.fold(models[0])
    scratch = tmp_path / "node" / "state" / ".exporting"
    if left_over:
        scratch.mkdir()
        (scratch / "update-00001.safetensors").write_bytes(b"half a file")
    asked: list[int] = []
    for most in (3, 25, 10_000):
        asked.clear()
        node.engine.stop = lambda most=most: len(asked) > most or bool(asked.append(1))
        staging = tmp_path / f"out-{most}"
        if most < 10_000:
            with pytest.raises(Stopped):
                node.export(staging)
        else:
            node.export(staging)
        assert not scratch.exists()


def test_the_scratch_of_a_killed_export_goes_at_the_next_start(tmp_path: Path) -> None:
    base, models = world(tmp_path)
    node = LocalNode(tmp_path / "node", base, resources=AMPLE)
    node.fold(models[0])
    scratch = tmp_path / "node" / "state" / ".exporting"
    scratch.mkdir()
    (scratch / "x").write_bytes(b"")
    node.generations.recover(1)
    assert not scratch.exists()
