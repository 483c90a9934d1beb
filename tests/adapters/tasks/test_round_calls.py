"""What a round asks of a plug-in: training, matching, BatchNorm, losses; right answers, and clear failures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from mergenode.adapters.tasks.calls import Calls
from mergenode.adapters.tasks.failure import Failure
from mergenode.adapters.tasks.round_worker import RoundWorker
from mergenode.errors import FatalError, TransientError, TransientReason
from mergenode.mixers.graph import derive
from mergenode.ports.task import TaskProgram
from tests.support.heard import Heard


class Net(nn.Module):
    """Convolution with BatchNorm, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 3)

    def forward(self, images: Tensor, scale: Tensor | None = None) -> Tensor:
        hidden = functional.relu(self.norm(self.conv(images))).mean(dim=(2, 3))
        logits: Tensor = self.head(hidden)
        return logits


def network(seed: int) -> Net:
    model, generator = Net(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
        for parameter in model.parameters():
            parameter.sub_(0.5)
    return model


class Plugin:
    trainer: Callable[[nn.Module, int], Any] = staticmethod(lambda model, round: {"round": round})

    def build_model(self) -> nn.Module:
        return Net()

    def calibration_batches(self) -> Iterator[dict[str, Tensor]]:
        generator = torch.Generator().manual_seed(5)
        for _ in range(3):
            yield {"images": torch.randn(8, 1, 6, 6, generator=generator), "labels": torch.arange(8) % 3}

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return functional.cross_entropy(model(images=batch["images"]), batch["labels"])

    def train(self, model: nn.Module, round: int) -> Any:
        assert model.training
        return type(self).trainer(model, round)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    monkeypatch.setattr("mergenode.adapters.tasks.calls.find_task", lambda entrypoint: Plugin())
    return Calls("a:B", lambda done, total: None)


def saved(folder: Path, name: str, model: nn.Module | dict[str, Tensor]) -> str:
    state = model.state_dict() if isinstance(model, nn.Module) else model
    save_file(dict(state), folder / f"{name}.safetensors")
    return str(folder / f"{name}.safetensors")


def train(calls: Calls, folder: Path, trainer: Callable[[nn.Module, int], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(Plugin, "trainer", staticmethod(trainer))
    source, out = saved(folder, "model", network(0)), str(folder / "trained.safetensors")
    return calls.answer({"call": "train", "checkpoint": source, "round": 4, "out": out})


def step(model: nn.Module, round: int) -> dict[str, Any]:
    loss = Plugin().loss(model, next(Plugin().calibration_batches()))
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(0.1 * parameter.grad)  # type: ignore[operator]  # it has one
    return {"loss": loss, "round": round}


def test_training_writes_what_the_plugin_made(calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = train(calls, tmp_path, step, monkeypatch)
    model = network(0)
    model.train()
    assert metrics == pytest.approx({"loss": float(step(model, 4)["loss"].detach()), "round": 4.0})
    got = load_file(tmp_path / "trained.safetensors")
    assert all(torch.equal(got[name], tensor) for name, tensor in model.state_dict().items())
    assert train(calls, tmp_path, lambda model, round: None, monkeypatch) == {}


def spoil(value: float) -> Callable[[nn.Module, int], Any]:
    def trainer(model: nn.Module, round: int) -> dict[str, float]:
        with torch.no_grad():
            next(model.parameters()).mul_(value)
        return {"loss": 1.0}

    return trainer


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        (spoil(float("nan")), "weights that are not finite"),
        (spoil(1e6), "times as large as before"),
        (lambda model, round: {"loss": float("nan")}, "returned nan for 'loss'"),
        (lambda model, round: 3, "returned int 3"),
    ],
)
def test_training_that_diverges_is_a_failure(
    calls: Calls,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trainer: Callable[[nn.Module, int], Any],
    message: str,
) -> None:
    with pytest.raises(Failure, match=message):
        train(calls, tmp_path, trainer, monkeypatch)
    assert not (tmp_path / "trained.safetensors").exists()


@pytest.mark.parametrize("matching", ["weights", "activations"])
def test_a_shuffled_copy_is_brought_back_into_order(calls: Calls, tmp_path: Path, matching: str) -> None:
    own = network(0)
    symmetry = derive(own, [torch.randn(2, 1, 6, 6)])
    shuffled = symmetry.permuted(own.state_dict(), symmetry.random(torch.Generator().manual_seed(1)))
    assert not torch.equal(shuffled["conv.weight"], own.state_dict()["conv.weight"])
    broken = {name: tensor * float("nan") for name, tensor in shuffled.items() if tensor.is_floating_point()}
    others = {"a": saved(tmp_path, "a", shuffled), "b": saved(tmp_path, "b", {**shuffled, **broken})}
    outs = {name: str(tmp_path / f"out-{name}.safetensors") for name in others}
    request = {"call": "align", "checkpoint": saved(tmp_path, "own", own), "matching": matching, "batches": 2}
    refused = calls.answer({**request, "others": others, "outs": outs})
    assert set(refused) == {"b"} and "finite" in refused["b"]
    got = load_file(outs["a"])
    assert all(torch.equal(got[name], tensor) for name, tensor in own.state_dict().items())
    assert not Path(outs["b"]).exists()


def test_statistics_of_batch_norm_are_those_of_the_batches(calls: Calls, tmp_path: Path) -> None:
    own, out = network(0), str(tmp_path / "out.safetensors")
    request = {"call": "recalibrate", "checkpoint": saved(tmp_path, "own", own), "out": out, "batches": None}
    assert calls.answer(request) == 3
    seen = [own.conv(batch["images"]).mean(dim=(0, 2, 3)) for batch in Plugin().calibration_batches()]
    torch.testing.assert_close(load_file(out)["norm.running_mean"], torch.stack(seen).mean(dim=0))


def test_losses_are_means_over_batches_and_none_where_there_is_no_number(calls: Calls, tmp_path: Path) -> None:
    own = network(0).eval()
    broken = {**own.state_dict(), "head.bias": torch.full((3,), float("nan"))}
    paths = [saved(tmp_path, "own", own), saved(tmp_path, "broken", broken)]
    found = calls.answer({"call": "losses", "checkpoints": paths, "batches": 2})
    wanted = [Plugin().loss(own, batch).item() for batch in Plugin().calibration_batches()][:2]
    assert found == [pytest.approx(sum(wanted) / 2), None]


def test_a_model_that_cannot_be_matched_is_named(calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.LSTM(6, 4)

        def forward(self, images: Tensor) -> Tensor:
            result: Tensor = self.cell(images[:, 0])[0].mean(dim=1)[:, :3]
            return result

    model = Recurrent()
    monkeypatch.setattr(Plugin, "build_model", lambda self: Recurrent())
    path = saved(tmp_path, "own", model)
    request = {"call": "align", "checkpoint": path, "matching": "weights", "batches": None}
    with pytest.raises(Failure, match="cell") as refused:
        calls.answer({**request, "others": {"a": path}, "outs": {"a": str(tmp_path / "x.safetensors")}})
    assert refused.value.kind == "unfit" and "mixer.matching" in refused.value.hint


def test_a_batch_that_never_reaches_the_model_is_told(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Plugin, "loss", lambda self, model, batch: torch.tensor(0.0))
    path = saved(tmp_path, "own", network(0))
    with pytest.raises(Failure, match="not called with a calibration batch"):
        calls.answer(
            {"call": "align", "checkpoint": path, "matching": "weights", "batches": None, "others": {}, "outs": {}}
        )


SOURCE = """
import os, signal, time
import torch

class Dies:
    def build_model(self):
        return torch.nn.Linear(2, 2)

    def train(self, model, round):
        os.kill(os.getpid(), signal.SIGKILL)

class Sleeps(Dies):
    def train(self, model, round):
        time.sleep(3600)
"""


@pytest.mark.parametrize(
    ("name", "seconds", "message"), [("Dies", 60.0, "SIGKILL"), ("Sleeps", 0.2, "longer than 0.2")]
)
def test_a_training_that_dies_or_never_ends_is_a_failure_of_the_task(
    tmp_path: Path, name: str, seconds: float, message: str
) -> None:
    (tmp_path / "bad_task.py").write_text(SOURCE)
    path = saved(tmp_path, "model", nn.Linear(2, 2))
    options = TaskProgram(entrypoint=f"bad_task:{name}", path=tmp_path)
    heard = Heard()
    with RoundWorker(options, batches=None, seconds=seconds, observer=heard) as worker:
        with pytest.raises(TransientError, match=message) as failed:
            worker.train(Path(path), 0, tmp_path / "out.safetensors")
        assert failed.value.reason is TransientReason.TASK_FAILED
        with pytest.raises(FatalError, match="no method calibration_batches"):
            worker.recalibrate(Path(path), tmp_path / "out.safetensors")
        assert worker.methods() == {"build_model", "train"}
    assert [(word.activity, word.subject, word.over) for word in heard.words] == [
        ("training", "round 0", False), ("training", "round 0", True)
    ]  # fmt: skip
