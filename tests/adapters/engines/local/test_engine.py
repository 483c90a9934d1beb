"""The engine as a whole: the same bytes whatever the threads and the memory, stopping, going on, devices."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mergenode.adapters.engines.local import shards
from mergenode.adapters.engines.local.engine import Resources
from mergenode.adapters.engines.local.one_shot import BATCH
from mergenode.adapters.observers.fan_out import FanOut
from mergenode.adapters.observers.log import LogObserver, configure_logging
from mergenode.bootstrap.node import run_node
from mergenode.errors import FatalError, TransientError, TransientReason
from mergenode.ports.engine import Stopped
from mergenode.settings import load_settings
from mergenode.types import Candidate
from tests.support.local_node import AMPLE, LocalNode, load_model, merge, same_bits
from tests.support.models import factors, fine_tune, random_base, write_lora, write_model
from tests.support.observed import HandClock

ADAPTED = ("layers.0.attn.q_proj", "layers.0.mlp.up_proj")
FLOAT_TYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 8 << 10)


def contributions(root: Path) -> tuple[Path, list[Path]]:
    """A sharded base, three full fine-tunes and an adapter between them."""
    base = random_base()
    shapes = {name: tuple(tensor.shape) for name, tensor in base.items()}
    models = [write_model(root / "in" / f"{n}-full", fine_tune(base, n), shards=1 + n % 2) for n in (0, 1, 3)]
    models.insert(2, write_lora(root / "in" / "2-lora", factors(ADAPTED, shapes, 1)))
    return write_model(root / "base", base, shards=2), models


def every_byte(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("method", ["opcm", "average"])
def test_threads_and_memory_change_no_byte(tmp_path: Path, method: str) -> None:
    base, models = contributions(tmp_path)
    outcomes = []
    for threads, memory in ((1, 8 << 30), (2, 8 << 30), (4, 8 << 30), (4, 0)):
        place = tmp_path / f"{threads}-{memory}"
        node = LocalNode(place, base, method, resources=Resources(memory_limit=8 << 30, threads=threads, device="cpu"))
        if not memory:  # the least that is not refused: one step in flight
            node.engine.resources = replace(
                AMPLE, threads=threads, memory_limit=node.engine.process_bytes() + (40 << 20)
            )
        for model in models:
            node.fold(model)
        node.export(place / "out")
        plan = "plan.json"
        statistics = {name: data for name, data in every_byte(node.folder).items() if name != plan}
        outcomes.append((node.head, statistics, every_byte(place / "out")))
    assert all(outcome == outcomes[0] for outcome in outcomes[1:])


def node_file(root: Path, base: Path, method: str, threads: int) -> Path:
    settings = {
        "node": {"name": "node", "state": str(root / "state")},
        "base": str(base),
        "registries": [{"url": str(base.parent / "in"), "settle_seconds": 0, "settle_polls": 1, "poll_seconds": 0.05}],
        "method": {"name": method},
        "publish": {"path": str(root / "published"), "keep": 9},
        "validation": {"max_relative_norm": None},
        "engine": {"threads": threads, "device": "cpu"},
        "http": {"listen": None},
    }
    root.mkdir(parents=True)
    (root / "node.yaml").write_text(json.dumps(settings))
    return root / "node.yaml"


@pytest.mark.parametrize("method", ["opcm", "average", "task_arithmetic"])
def test_the_daemon_and_one_merge_give_the_same_model(tmp_path: Path, method: str) -> None:
    """The daemon folds one after another; `merge` goes over all at once, without statistics where the method allows."""
    base, models = contributions(tmp_path)
    run_node(load_settings(node_file(tmp_path / "node", base, method, threads=2)), once=True)
    latest = tmp_path / "node" / "published" / "latest"
    streamed = json.loads((latest / "mergenode.json").read_text())
    assert streamed["count"] == 4
    manifest = merge(base, tmp_path / "merged", models, method=method)
    assert manifest["lineage"] == streamed["lineage"]
    assert manifest["tensors"] == streamed["tensors"]
    assert [entry["content"] for entry in manifest["contributions"]] == [
        entry["content"] for entry in streamed["contributions"]
    ]
    one, other = load_model(latest), load_model(tmp_path / "merged")
    assert one.keys() == other.keys()
    assert all(same_bits(one[name], other[name]) for name in one)


@pytest.mark.parametrize("method", ["opcm", "average"])
def test_a_merge_of_more_models_than_one_pass_takes(tmp_path: Path, method: str) -> None:
    base = random_base()
    place = write_model(tmp_path / "base", base)
    models = [write_model(tmp_path / f"{n:02d}", fine_tune(base, n)) for n in range(BATCH + 2)]
    node = LocalNode(tmp_path / "node", place, method)
    for model in models:
        node.fold(model)
    merge(place, tmp_path / "merged", models, method=method)
    one, other = node.published(tmp_path / "out"), load_model(tmp_path / "merged")
    assert all(same_bits(one[name], other[name]) for name in one)


@pytest.mark.parametrize("method", ["opcm", "average"])
@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_a_single_contribution_comes_back_bit_for_bit(tmp_path: Path, method: str, dtype: str) -> None:
    """Also where ``base + (tuned - base)`` would not: tuned weights far smaller than the base's, and signed zeros."""
    base = random_base(dtype=FLOAT_TYPES[dtype])
    tuned = fine_tune(base, 1)
    for name, tensor in tuned.items():
        if tensor.is_floating_point() and tensor.numel() > 8:
            flat = tensor.view(-1)
            flat[:6] = torch.tensor([1e-6, -1e-7, 0.0, -0.0, 3e-5, 65000.0 if name == "layers.1.conv.bias" else 1e-5])
    tuned["lm_head.weight"] = tuned["model.embed_tokens.weight"].clone()
    exact = base["layers.0.attn.q_proj.weight"].double() - tuned["layers.0.attn.q_proj.weight"].double()
    if dtype == "F32":
        naive = base["layers.0.attn.q_proj.weight"] - exact.float()
        assert not same_bits(naive, tuned["layers.0.attn.q_proj.weight"])
    place = write_model(tmp_path / "base", base)
    write_model(tmp_path / "in" / "only", tuned)
    run_node(load_settings(node_file(tmp_path / "node", place, method, threads=1)), once=True)
    merge(place, tmp_path / "merged", [tmp_path / "in" / "only"], method=method)
    for result in (load_model(tmp_path / "node" / "published" / "latest"), load_model(tmp_path / "merged")):
        assert result.keys() == tuned.keys()
        assert [name for name in tuned if not same_bits(result[name], tuned[name])] == []


def test_a_stop_between_steps_keeps_finished_shards(tmp_path: Path) -> None:
    base, models = contributions(tmp_path)
    undisturbed = LocalNode(tmp_path / "a", base)
    undisturbed.fold(models[0])
    node = LocalNode(tmp_path / "b", base)
    asked = []

    def stop() -> bool:
        asked.append(len(list(node.engine.folding.glob("shard-*.json"))))
        return asked[-1] >= 3

    node.engine.stop = stop
    with pytest.raises(Stopped, match="fold of 0-full"):
        node.fold(models[0])
    kept = sorted(node.engine.folding.glob("shard-*.json"))
    assert len(kept) >= 3
    times = {path: path.stat().st_mtime_ns for path in kept}
    node.engine.stop = lambda: False
    whole = undisturbed.results[0]
    clock, log = HandClock(), io.StringIO()
    configure_logging("console", "info", log)
    node.observer = LogObserver(clock)
    result = node.fold(models[0])
    assert f"the fold of '0-full' is taken up again: {len(kept)} of " in log.getvalue()
    assert {path: (node.folder / path.name).stat().st_mtime_ns for path in kept} == times
    assert result.statistics == whole.statistics and result.content == whole.content
    assert result.bytes_written < whole.bytes_written


def test_a_fold_of_another_input_starts_afresh(tmp_path: Path) -> None:
    base, models = contributions(tmp_path)
    node = LocalNode(tmp_path / "a", base)
    node.engine.stop = lambda: len(list(node.engine.folding.glob("shard-*.json"))) >= 3
    with pytest.raises(Stopped):
        node.fold(models[0])
    node.engine.stop = lambda: False
    other = LocalNode(tmp_path / "b", base)
    assert node.fold(models[1]).statistics == other.fold(models[1]).statistics


def test_a_base_that_changes_under_a_fold_is_noticed(tmp_path: Path) -> None:
    base, models = contributions(tmp_path)
    node = LocalNode(tmp_path / "a", base)
    file = next(base.glob("model-00001*"))

    def stop() -> bool:
        file.touch()
        return False

    node.engine.stop = stop
    with pytest.raises(TransientError) as caught:
        node.fold(models[0])
    assert caught.value.reason is TransientReason.CHANGED_WHILE_READING


def test_progress_reaches_the_end_and_never_passes_it(tmp_path: Path) -> None:
    class Watching(FanOut):
        def progress(self, progress: object) -> None:
            seen.append(progress)

    base, models = contributions(tmp_path)
    node = LocalNode(tmp_path / "a", base)
    for path in (models[0], models[2]):
        seen: list[object] = []
        node.engine.fold(Candidate("inbox", path.name, "1", str(path)), node.head, Watching([]))
        assert seen[-1].tensors_done == seen[-1].tensors_total
        done = [progress.tensors_done for progress in seen]
        assert done == sorted(done)
        assert all(progress.bytes_done <= progress.bytes_total for progress in seen)


def test_a_device_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    base, _ = contributions(tmp_path)
    node = LocalNode(tmp_path / "a", base, resources=replace(AMPLE, device="cuda"))
    with pytest.raises(FatalError, match=r"engine\.device is cuda") as caught:
        node.engine.check_memory()
    assert "engine.device" in caught.value.hint
    assert replace(AMPLE, device="auto").torch_device() == torch.device("cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_device_changes_nothing_but_rounding(tmp_path: Path) -> None:
    base, models = contributions(tmp_path)
    found = []
    for device in ("cpu", "cuda"):
        node = LocalNode(tmp_path / device, base, resources=replace(AMPLE, device=device))
        for model in models:
            node.fold(model)
        found.append((node.running_sum(), node.results[-1].norm))
    (host, norm), (device_sum, _) = found
    for name in host:
        assert float((host[name] - device_sum[name]).norm()) <= 1e-5 * norm


def test_an_empty_merge_is_the_base(tmp_path: Path) -> None:
    base, _ = contributions(tmp_path)
    node = LocalNode(tmp_path / "a", base)
    published = node.published(tmp_path / "out")
    assert all(same_bits(published[name], tensor) for name, tensor in load_model(base).items())
