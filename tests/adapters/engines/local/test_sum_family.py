"""The sum family through files: statistics of other shapes than the weights, adapters, replays, disk space."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mergenode.adapters.engines.local import shards
from mergenode.adapters.engines.local.engine import Resources
from mergenode.adapters.engines.local.shards import shard_layout
from mergenode.adapters.engines.local.tensors import accumulator_dtype
from mergenode.methods import METHODS
from mergenode.ports.engine import Stopped
from tests.support.local_node import LocalNode, load_model, merge, same_bits
from tests.support.models import densified, factors, fine_tune, random_base, write_lora, write_model
from tests.support.side_cars import write_side_cars

FAMILY = [name for name in METHODS if name not in ("opcm", "average")]
ADAPTED = ("layers.0.attn.q_proj", "layers.0.mlp.down_proj")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 8 << 10)


def world(root: Path) -> tuple[Path, list[Path]]:
    """A base, two full fine-tunes and between them an adapter that touches two weights; side-cars beside them all."""
    base = random_base()
    shapes = {name: tuple(tensor.shape) for name, tensor in base.items()}
    models = [write_model(root / "in" / f"full-{n}", fine_tune(base, n)) for n in (0, 1)]
    models.insert(1, write_lora(root / "in" / "lora", factors(ADAPTED, shapes, 1)))
    for number, model in enumerate(models):
        write_side_cars(model, base, number)
    return write_model(root / "base", base), models


def statistics_bytes(node: LocalNode) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(node.folder.glob("shard-*.safetensors"))}


@pytest.mark.parametrize("method", FAMILY)
def test_threads_change_no_byte_and_one_merge_gives_the_same(tmp_path: Path, method: str) -> None:
    base, models = world(tmp_path)
    outcomes = []
    for threads in (1, 4):
        resources = Resources(memory_limit=8 << 30, threads=threads, device="cpu")
        node = LocalNode(tmp_path / f"{threads}", base, method, resources=resources)
        for model in models:
            node.fold(model)
        outcomes.append((node.head, statistics_bytes(node), node.published(tmp_path / f"{threads}" / "out")))
    assert outcomes[0][:2] == outcomes[1][:2]
    merge(base, tmp_path / "merged", models, method=method)
    one_shot = load_model(tmp_path / "merged")
    for published in (outcomes[0][2], outcomes[1][2]):
        assert all(same_bits(published[name], one_shot[name]) for name in one_shot)


@pytest.mark.parametrize("method", FAMILY)
def test_an_adapter_leaves_the_statistics_of_other_tensors_alone(tmp_path: Path, method: str) -> None:
    base, (full, lora, _) = world(tmp_path)
    node = LocalNode(tmp_path / "node", base, method)
    node.fold(full)
    before = node.records()
    node.fold(lora)
    for name, record in node.records().items():
        touched = name.removesuffix(".weight") in ADAPTED
        assert (record["statistics"] == before[name]["statistics"]) is not touched


@pytest.mark.parametrize("method", [name for name in FAMILY if name != "dare"])
def test_an_adapter_enters_like_the_checkpoint_made_from_it(tmp_path: Path, method: str) -> None:
    base, (full, lora, _) = world(tmp_path)
    tensors = load_model(base)
    pairs = load_file(lora / "adapter_model.safetensors")
    dense = write_model(tmp_path / "in" / "dense", densified(tensors, pairs))
    write_side_cars(dense, random_base(), 1)
    results = []
    for number, second in enumerate((lora, dense)):
        node = LocalNode(tmp_path / f"{number}", base, method)
        node.fold(full)
        node.fold(second)
        results.append(node.published(tmp_path / f"{number}" / "out"))
    for name, tensor in results[0].items():
        if node.engine.method.ignores_untouched and name.removesuffix(".weight") not in ADAPTED:
            continue
        if tensor.is_floating_point() and tensor.numel():
            moved = (tensor.double() - tensors[name].double()).norm()
            rounding = torch.finfo(tensor.dtype).eps * tensor.double().norm()
            assert (tensor.double() - results[1][name].double()).norm() <= 1e-4 * moved + rounding


@pytest.mark.parametrize("method", FAMILY)
def test_statistics_on_disk_are_as_large_as_stated(tmp_path: Path, method: str) -> None:
    base, models = world(tmp_path)
    node = LocalNode(tmp_path / "node", base, method)
    node.fold(models[0])
    node.fold(models[2])
    merged = [spec for specs in shard_layout(node.described) for spec in specs]
    stated = {
        spec.name: node.engine.method.state_factor(spec) * spec.numel * accumulator_dtype(spec).itemsize
        for spec in merged
    }
    stored = dict.fromkeys(stated, 0)
    for path in node.folder.glob("shard-*.safetensors"):
        for key, tensor in load_file(path).items():
            stored[key.split(".", 1)[1]] += tensor.nbytes
    assert all(stored[name] <= stated[name] + 1 for name in stated)
    assert sum(stored.values()) >= 0.95 * sum(stated.values())


@pytest.mark.parametrize("weighted", [1.0, 0.5])
def test_what_dare_drops_depends_on_the_stored_bytes_and_the_name_alone(tmp_path: Path, weighted: float) -> None:
    """A copy elsewhere, in other shards, under another name of the checkpoint, folded with another weight."""
    base, (full, lora, _) = world(tmp_path)
    copy = write_model(tmp_path / "elsewhere" / "copy", load_model(full), shards=3)
    masks = []
    for number, (first, second) in enumerate(((full, lora), (copy, lora))):
        node = LocalNode(tmp_path / f"{number}", base, "dare")
        node.fold(first, weighted if number else 1.0)
        node.fold(second)
        masks.append({name: total != 0 for name, total in node.running_sum().items()})
    untouched = [name for name in masks[0] if name.removesuffix(".weight") not in ADAPTED]
    assert all(torch.equal(masks[0][name], masks[1][name]) for name in untouched)
    kept = sum(int(mask.sum()) for mask in masks[0].values()) / sum(mask.numel() for mask in masks[0].values())
    assert 0.45 < kept < 0.65
    other = [name for name in untouched if masks[0][name].shape == (32,)]
    assert not torch.equal(masks[0][other[0]], masks[0][other[1]]), "one mask for each tensor"


def test_a_killed_fold_of_a_sum_method_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    base, models = world(tmp_path)
    straight, resumed = (LocalNode(tmp_path / name, base, "aswudi") for name in ("straight", "resumed"))
    for node in (straight, resumed):
        node.fold(models[0])
    straight.fold(models[2])
    asked = 0

    def after_some_steps() -> bool:
        nonlocal asked
        asked += 1
        return asked > 9

    resumed.engine.stop = after_some_steps
    with pytest.raises(Stopped):
        resumed.fold(models[2])
    assert list(resumed.engine.folding.glob("shard-*.json"))
    resumed.engine.stop = lambda: False
    resumed.fold(models[2])
    assert statistics_bytes(straight) == statistics_bytes(resumed)
    assert straight.head == resumed.head
