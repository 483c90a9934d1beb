"""Refinement through the plug-in's process: it ends where the sums say, and sums follow a stream of contributions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mergenode.adapters.tasks.refine_worker import RefineWorker
from mergenode.adapters.tasks.worker import TaskWorker
from mergenode.bootstrap.refining import RefineRequest, RefineResult, refine_once
from mergenode.errors import FatalError, TransientError, UsageError
from mergenode.maths.probe_sums import head_metric
from mergenode.ports.task import TaskProgram
from tests.support.checkpoints import write_adapter

SOURCE = """
import torch

class Task:
    inputs = 3

    def build_model(self):
        return torch.nn.Sequential(torch.nn.Linear(3, 4, bias=False), torch.nn.Linear(4, 4, bias=False))

    def probes(self):
        generator = torch.Generator().manual_seed(0)
        return [torch.randn(8, 3, generator=generator) for _ in range(self.inputs)]

    def outputs(self, model, batch):
        return model(batch)

    def head(self, contribution):
        rows = {"left": [[1.0, 0, 0, 0], [0, 1.0, 0, 0]], "right": [[0, 0, 1.0, 0], [0, 0, 0, 1.0], [0, 0, 1.0, 1.0]]}
        return torch.tensor(rows[contribution]) if contribution in rows else None

class Other(Task):
    inputs = 4

class Detached(Task):
    def outputs(self, model, batch):
        return model(batch).detach()

class Wide(Task):
    def head(self, contribution):
        return torch.eye(5)

class Forgetful(Task):
    def head(self, contribution):
        return None

class Torn(Task):
    def outputs(self, model, batch):
        if torch.is_grad_enabled():
            raise ValueError("half way")
        return super().outputs(model, batch)
"""


@pytest.fixture
def world(tmp_path: Path) -> Path:
    (tmp_path / "made_task.py").write_text(SOURCE)
    draw = torch.Generator().manual_seed(5)
    base = {"0.weight": torch.randn(4, 3, generator=draw), "1.weight": torch.randn(4, 4, generator=draw)}
    _save(tmp_path / "base", base)
    for name in ("left", "right", "headless"):
        moved = base["1.weight"] + 0.3 * torch.randn(4, 4, generator=draw)
        _save(tmp_path / name, {**base, "1.weight": moved})
    both = [load_file(tmp_path / name / "model.safetensors")["1.weight"] for name in ("left", "right")]
    _save(tmp_path / "merged", {**base, "1.weight": (both[0] + both[1]) / 2})
    return tmp_path


def _save(directory: Path, tensors: dict[str, Tensor]) -> None:
    directory.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, directory / "model.safetensors")
    (directory / "config.json").write_text('{"model_type": "made"}')


def refined(world: Path, *models: str, task: str = "Task", output: str = "refined", **more: Any) -> RefineResult:
    request = RefineRequest(
        base=world / "base",
        merged=world / "merged",
        output=world / output,
        task=TaskProgram(entrypoint=f"made_task:{task}", path=world, timeout=120.0),
        models=[(world / name, 1.0) for name in models],
        **{"epochs": 400, "rate": 0.02, **more},
    )
    return refine_once(request, lambda kind, done, total: None)


def weights(directory: Path) -> dict[str, Tensor]:
    return load_file(directory / "model.safetensors")


def mapped(directory: Path) -> Tensor:
    """The whole model: it is linear."""
    found = weights(directory)
    return found["1.weight"] @ found["0.weight"]


def test_the_model_says_what_each_contribution_says_as_far_as_its_head_listens(world: Path) -> None:
    result = refined(world, "left", "right", "headless")
    assert (result.entered, result.skipped) == (("left", "right"), ("headless",))
    assert result.after < result.before
    found = weights(world / "refined")
    torch.testing.assert_close(found["0.weight"], weights(world / "base")["0.weight"], rtol=0, atol=0)
    # The heads listen to directions that have nothing in common, so that both can be had: (1, -1, 0, 0) is left's.
    heads = {"left": [[1.0, 0, 0, 0], [0, 1.0, 0, 0]], "right": [[0, 0, 1.0, 0], [0, 0, 0, 1.0], [0, 0, 1.0, 1.0]]}
    for name, rows in heads.items():
        metric = head_metric(torch.tensor(rows))
        gap = metric @ (mapped(world / "refined") - mapped(world / name))
        before = metric @ (mapped(world / "merged") - mapped(world / name))
        assert float(gap.norm()) < 0.02 * float(before.norm())


def test_the_output_is_a_checkpoint_that_says_where_it_came_from(world: Path) -> None:
    result = refined(world, "left", epochs=1)
    told = json.loads((world / "refined" / "mergenode.json").read_bytes())
    assert told["training"] == {"epochs": 1, "rate": 0.02, "seed": 0, "steps": 3, "before": result.before,
                                "after": result.after}  # fmt: skip
    assert [member["name"] for member in told["contributions"].values()] == ["left"]
    assert (world / "refined" / "config.json").read_text() == '{"model_type": "made"}'
    assert weights(world / "refined").keys() == weights(world / "merged").keys()


def test_sums_follow_the_stream_and_take_back(world: Path) -> None:
    sums = world / "sums.safetensors"
    refined(world, "left", output="one", sums=sums, epochs=1)
    second = refined(world, "left", "right", output="two", sums=sums, epochs=5)
    assert second.entered == ("right",), "what is in the sums is not asked again"
    refined(world, "right", "left", output="at-once", epochs=5)
    left_out = refined(world, output="left-out", sums=sums, without=[world / "left"], epochs=5)
    assert [member.name for member in left_out.contributions.values()] == ["right"]
    refined(world, "right", output="never", epochs=5)
    for one, other in (("two", "at-once"), ("left-out", "never")):
        torch.testing.assert_close(weights(world / one), weights(world / other), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_computed_again_does_not_leave(world: Path) -> None:
    sums = world / "sums.safetensors"
    refined(world, "left", "right", output="one", sums=sums, epochs=1)
    kept = sums.read_bytes()
    with pytest.raises(UsageError, match="no head for 'left' any more"):
        refined(world, output="two", task="Forgetful", sums=sums, without=[world / "left"])
    assert sums.read_bytes() == kept
    with pytest.raises(UsageError, match="is no safetensors file"):
        refined(world, "left", output="two", sums=world / "sums.bin")


def test_the_same_again_is_the_same_model(world: Path) -> None:
    refined(world, "left", "right", output="one", epochs=3)
    refined(world, "left", "right", output="two", epochs=3)
    assert (world / "one" / "model.safetensors").read_bytes() == (world / "two" / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("Detached", "without gradient"),
        ("Wide", "do not fit a head of width 5"),
        ("Torn", "half way"),
    ],
)
def test_a_plugin_that_fails_leaves_nothing(world: Path, task: str, said: str) -> None:
    with pytest.raises(TransientError, match=said):
        refined(world, "left", task=task)
    assert sorted(path.name for path in world.iterdir() if "refin" in path.name) == []


def test_other_probes_do_not_add_to_sums(world: Path) -> None:
    sums = world / "sums.safetensors"
    refined(world, "left", output="one", sums=sums, epochs=1)
    kept = sums.read_bytes()
    with pytest.raises(UsageError, match="over other probes"):
        refined(world, "right", output="two", sums=sums, task="Other")
    with pytest.raises(TransientError, match="beyond sums over"):
        refined(world, output="two", sums=sums, task="Other")
    assert sums.read_bytes() == kept


def test_what_was_summed_before_a_failure_stays(world: Path) -> None:
    sums = world / "sums.safetensors"
    (world / "torn").mkdir()
    _save(world / "torn/right", {"0.weight": torch.zeros(4, 3)})
    with pytest.raises(FatalError, match=r"1\.weight"):
        refined(world, "left", "torn/right", sums=sums)
    assert refined(world, "left", "right", sums=sums, epochs=1).entered == ("right",)


def test_an_adapter_counts_with_its_base(world: Path) -> None:
    full, base = weights(world / "left")["1.weight"], weights(world / "base")["1.weight"]
    u, s, v = torch.linalg.svd(full - base)
    pair = {"lora_A": v.contiguous(), "lora_B": (u * s).contiguous()}
    tensors = {f"base_model.model.1.{name}.weight": half for name, half in pair.items()}
    write_adapter(world / "adapters/left", tensors, r=4, lora_alpha=4, target_modules=["1"])
    one = refined(world, "left", output="from-full", epochs=5)
    other = refined(world, "adapters/left", output="from-adapter", epochs=5)
    assert one.after == pytest.approx(other.after, rel=1e-4)


def test_nothing_to_refine_towards_is_said(world: Path) -> None:
    with pytest.raises(UsageError, match="no model has a head"):
        refined(world, "headless")
    with pytest.raises(UsageError, match="is not in the sums"):
        refined(world, "left", without=[world / "right"], sums=world / "sums.safetensors")
    with pytest.raises(UsageError, match="already exists"):
        refined(world, "left", output="base")


def test_a_file_that_holds_no_sums_is_refused(world: Path) -> None:
    for content in (b"", b"no safetensors at all", (world / "left" / "model.safetensors").read_bytes()):
        (world / "sums.safetensors").write_bytes(content)
        with pytest.raises(FatalError, match=r"sums\.safetensors"):
            refined(world, "left", sums=world / "sums.safetensors")


def test_a_merge_that_is_the_base_cannot_be_refined(world: Path) -> None:
    (world / "merged" / "model.safetensors").write_bytes((world / "base" / "model.safetensors").read_bytes())
    with pytest.raises(TransientError, match="nothing to refine"):
        refined(world, "left")


def test_every_method_can_be_tried_alone(world: Path) -> None:
    with TaskWorker(TaskProgram(entrypoint="made_task:Task", path=world, timeout=120.0)) as worker:
        said = {name: worker.try_method(name, world / "base") for name in ("probes", "outputs", "head")}
    assert said["probes"] == "3 batches"
    assert "[8, 4]" in said["outputs"]


@pytest.mark.parametrize("answer", [True, [1], {"steps": 1}, {"steps": 1, "before": "x", "after": 0.0}])
def test_an_answer_that_is_none_is_refused(world: Path, answer: object) -> None:
    class Lying(RefineWorker):
        def _ask(self, *_: object, **__: object) -> Any:
            return answer

    worker = Lying(TaskProgram(entrypoint="made_task:Task", path=world))
    with pytest.raises(TransientError, match="something else"):
        worker.refine(world / "merged", world / "base", world / "s", world / "o", epochs=1, rate=0.1)
    if not isinstance(answer, dict):
        with pytest.raises(TransientError, match="something else"):
            worker.probe(world / "left", "left", world / "o")
