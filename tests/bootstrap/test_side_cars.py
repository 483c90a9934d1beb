"""Side-cars through the plug-in's process: written whole or not at all, for full checkpoints and for adapters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mergenode.adapters.checkpoints.side_car_names import is_side_car
from mergenode.adapters.registries.marker import write_marker
from mergenode.adapters.tasks.side_car_file import publish_side_car, side_car_place
from mergenode.bootstrap.side_cars import SideCarRequest, SideCarResult, make_side_cars
from mergenode.errors import FatalError, MergenodeError, TransientError, UsageError
from mergenode.ports.task import TaskProgram

SOURCE = """
import torch

class Grams:
    def build_model(self):
        return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))

    def calibration_batches(self):
        generator = torch.Generator().manual_seed(0)
        return [torch.randn(5, 3, generator=generator) for _ in range(3)]

class Both(Grams):
    def loss(self, model, batch):
        return model(batch).square().mean()

class Torn(Both):
    def loss(self, model, batch):
        if torch.is_grad_enabled():
            raise ValueError("half way")
        return super().loss(model, batch)

class Neither:
    def evaluate(self, model):
        return {"score": 1.0}
"""
SHAPES = {"0.weight": (4, 3), "0.bias": (4,), "1.weight": (2, 4), "1.bias": (2,)}
INPUTS = [torch.randn(5, 3, generator=g) for g in [torch.Generator().manual_seed(0)] for _ in range(3)]


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    (tmp_path / "made_task.py").write_text(SOURCE)
    return tmp_path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return saved(tmp_path / "tuned")


def saved(directory: Path, *, seed: int = 0) -> Path:
    directory.mkdir()
    draw = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(shape, generator=draw) for name, shape in SHAPES.items()}
    save_file(tensors, directory / "model.safetensors")
    (directory / "config.json").write_text("{}")
    return directory


def made(plugins: Path, name: str, checkpoint: Path, *kinds: str, **more: object) -> SideCarResult:
    task = TaskProgram(entrypoint=f"made_task:{name}", path=plugins, timeout=120.0)
    request = SideCarRequest(checkpoint=checkpoint, task=task, kinds=kinds, **more)  # type: ignore[arg-type]
    return make_side_cars(request, lambda kind, done, total: None)


def side_cars(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir() if is_side_car(path.name) or path.name.startswith(".")}


def test_all_that_the_plugin_can_make_is_made(plugins: Path, checkpoint: Path) -> None:
    result = made(plugins, "Both", checkpoint)
    assert [one.kind for one in result.made] == ["fisher", "gram"]
    assert result.made[0].counts == {"tensors": 4, "examples": 15}
    assert result.made[1].counts == {"tensors": 2, "batches": 3, "rows": 15}
    assert side_cars(checkpoint) == {"model.fisher.safetensors", "model.gram.safetensors"}
    grams = load_file(checkpoint / "model.gram.safetensors")
    weights = load_file(checkpoint / "model.safetensors")
    seen = torch.cat(INPUTS)
    behind = seen @ weights["0.weight"].T + weights["0.bias"]
    assert torch.allclose(grams["0.weight"], seen.T @ seen / 15, atol=1e-5)
    assert torch.allclose(grams["1.weight"], behind.T @ behind / 15, atol=1e-4)
    fishers = load_file(checkpoint / "model.fisher.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in fishers.items()} == SHAPES
    outputs = behind @ weights["1.weight"].T + weights["1.bias"]
    assert torch.allclose(fishers["1.bias"], outputs.square().mean(dim=0), rtol=1e-4)


def test_fewer_batches_and_one_kind(plugins: Path, checkpoint: Path) -> None:
    (one,) = made(plugins, "Grams", checkpoint, batches=2).made
    assert (one.kind, one.counts["batches"], one.counts["rows"]) == ("gram", 2, 10)
    with pytest.raises(UsageError, match=r"cannot make a fisher: it lacks loss\(\)"):
        made(plugins, "Grams", checkpoint, "fisher")
    with pytest.raises(UsageError, match=r"build_model\(\), calibration_batches\(\)"):
        made(plugins, "Neither", checkpoint)


def test_a_failure_leaves_nothing_half_made_and_keeps_what_was_there(plugins: Path, checkpoint: Path) -> None:
    made(plugins, "Both", checkpoint)
    before = (checkpoint / "model.fisher.safetensors").read_bytes()
    with pytest.raises(TransientError, match="half way"):
        made(plugins, "Torn", checkpoint, "fisher")
    assert (checkpoint / "model.fisher.safetensors").read_bytes() == before
    assert side_cars(checkpoint) == {"model.fisher.safetensors", "model.gram.safetensors"}


def test_a_checkpoint_of_another_architecture_is_told_by_name(plugins: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    save_file({"0.weight": torch.ones(4, 3)}, tmp_path / "other" / "model.safetensors")
    with pytest.raises(FatalError, match=r"no weights for '0\.bias', '1\.weight', '1\.bias'"):
        made(plugins, "Grams", tmp_path / "other")


def test_a_bare_file_gets_them_beside_it(plugins: Path, checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "model.safetensors").rename(tmp_path / "maths.safetensors")
    (one,) = made(plugins, "Grams", tmp_path / "maths.safetensors").made
    assert one.path == tmp_path / "maths.gram.safetensors" and one.path.is_file()


def test_an_older_one_is_replaced_and_an_older_marker_is_told(plugins: Path, checkpoint: Path) -> None:
    save_file({"0.weight": torch.eye(3)}, checkpoint / "mine.gram.safetensors")
    assert made(plugins, "Grams", checkpoint).stale_marker is None
    assert side_cars(checkpoint) == {"mine.gram.safetensors"}
    write_marker(checkpoint)
    assert made(plugins, "Grams", checkpoint).stale_marker == checkpoint / "mergenode.commit.json"


def test_an_adapter_is_added_to_its_base_first(plugins: Path, tmp_path: Path) -> None:
    base, adapter = saved(tmp_path / "base"), tmp_path / "adapter"
    adapter.mkdir()
    left, right = torch.randn(4, 2), torch.randn(2, 3)
    pairs = {"base_model.model.0.lora_A.weight": right, "base_model.model.0.lora_B.weight": left}
    save_file(pairs, adapter / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["0"]}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="is an adapter") as caught:
        made(plugins, "Grams", adapter)
    assert "--base" in caught.value.hint
    made(plugins, "Grams", adapter, base=base)
    assert side_cars(adapter) == {"model.gram.safetensors"}
    weights, seen = load_file(base / "model.safetensors"), torch.cat(INPUTS)
    behind = seen @ (weights["0.weight"] + left @ right).T + weights["0.bias"]
    found = load_file(adapter / "model.gram.safetensors")
    assert torch.allclose(found["1.weight"], behind.T @ behind / 15, rtol=1e-4, atol=1e-3)


def test_what_nobody_could_read_gets_no_name(checkpoint: Path) -> None:
    def write_rubbish(out: Path) -> None:
        out.write_bytes(b"rubbish")

    with pytest.raises(MergenodeError):
        publish_side_car(checkpoint, "gram", write_rubbish)
    assert side_cars(checkpoint) == set()
    assert side_car_place(checkpoint, "gram").name == "model.gram.safetensors"
