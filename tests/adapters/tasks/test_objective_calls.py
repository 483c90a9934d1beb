"""Gradients in files and losses between two models, against a loss whose derivative is written down."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mergenode.adapters.tasks.calls import Calls
from mergenode.adapters.tasks.failure import Failure
from mergenode.adapters.tasks.segments import open_segment
from mergenode.adapters.tasks.worker import TaskWorker
from mergenode.errors import TransientError
from mergenode.ports.task import TaskProgram


class Tied(nn.Module):
    """Two places for one table, a buffer, a frozen weight and an unused one."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(4, 3), nn.Linear(3, 4, bias=False)
        self.out.weight = self.table.weight
        self.frozen = nn.Parameter(torch.zeros(2), requires_grad=False)
        self.unused = nn.Parameter(torch.zeros(2))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.dropout = nn.Dropout(0.5)

    def forward(self, rows: Tensor) -> Tensor:
        logits: Tensor = self.out(self.dropout(self.table(rows)))
        return logits


class Plugin:
    batches: Callable[[], Any] = staticmethod(lambda: [{"rows": torch.tensor([n]), "scale": 2.0} for n in (0, 2)])
    scalar: Callable[[Tensor], Any] = staticmethod(lambda logits: logits.sum())

    def build_model(self) -> nn.Module:
        return Tied()

    def calibration_batches(self) -> Any:
        return type(self).batches()

    def loss(self, model: nn.Module, batch: dict[str, Any]) -> Any:
        scale = batch.pop("scale")  # as many do with labels
        return type(self).scalar(model(batch["rows"])) * scale


class Asked(TaskWorker):
    def _ask(self, request: Any, progress: object = None, *, seconds: float | None = None) -> Any:
        return self.calls.answer(request)

    calls: Calls


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Asked:
    monkeypatch.setattr("mergenode.adapters.tasks.calls.find_task", lambda entrypoint: Plugin())
    asked = Asked(TaskProgram(entrypoint="a:B"))
    asked.calls = Calls("a:B", lambda done, total: None)
    return asked


def table(seed: int) -> Tensor:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))


def saved(folder: Path, name: str, values: Tensor, **others: Tensor) -> Path:
    state = {
        "table.weight": values, "frozen": torch.zeros(2), "unused": torch.zeros(2),
        "steps": torch.tensor(7), **others,
    }  # fmt: skip
    save_file(state, folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


def loss_of(values: Tensor) -> float:
    """Mean over the batches of 2 sum_k <e_n, e_k>."""
    return float(sum(2 * (values @ values[row]).sum() for row in (0, 2)) / 2)


def test_the_gradient_has_the_names_of_the_checkpoint_and_tied_weights_once(worker: Asked, tmp_path: Path) -> None:
    """d/de of sum_k <e_n, e_k>: e_n in every row k, and the sum of all rows in row n."""
    values, out = table(1), tmp_path / "gradient.safetensors"
    loss = worker.gradient(saved(tmp_path, "model", values), out)
    assert loss == pytest.approx(loss_of(values), rel=1e-5)
    expected = (values[0] + values[2]).expand(4, 3).clone()
    expected[[0, 2]] += values.sum(dim=0)
    found = load_file(out)
    assert set(found) == {"table.weight"}
    assert torch.allclose(found["table.weight"], expected, rtol=1e-5, atol=1e-6)
    with safe_open(out, "pt") as file:
        assert {"kind": "gradient", "batches": "2"}.items() <= file.metadata().items()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gradient.safetensors", "model.safetensors"]


def test_the_gradient_is_that_of_the_checkpoint_asked_about(worker: Asked, tmp_path: Path) -> None:
    first, second, out = saved(tmp_path, "a", table(1)), saved(tmp_path, "b", table(2)), tmp_path / "g.safetensors"
    worker.gradient(first, out)
    before = load_file(out)["table.weight"]
    assert worker.gradient(second, out, batches=1) == pytest.approx(float(2 * (table(2) @ table(2)[0]).sum()), rel=1e-5)
    assert not torch.allclose(load_file(out)["table.weight"], before)


def test_losses_between_two_models(worker: Asked, tmp_path: Path) -> None:
    a, b = table(1), table(2)
    start, end = saved(tmp_path, "start", a), saved(tmp_path, "end", b.bfloat16())
    gammas = [0.0, 0.25, 1.0, 1.5, -0.5]
    found = worker.losses(start, end, gammas)
    b = b.bfloat16().float()
    assert found == pytest.approx([loss_of(a + gamma * (b - a)) for gamma in gammas], rel=1e-4)
    assert worker.losses(start, end, []) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["end.safetensors", "start.safetensors"]


def test_all_points_see_the_same_batches(
    worker: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    draws = iter(range(100))
    monkeypatch.setattr(
        Plugin, "batches", staticmethod(lambda: ({"rows": torch.tensor([next(draws) % 4]), "scale": 1.0},))
    )
    start = saved(tmp_path, "start", table(1))
    first, second, third = worker.losses(start, start, [0.0, 0.5, 1.0])
    assert first == second == third
    assert next(draws) == 1


def test_a_loss_that_is_not_finite_is_never_the_smallest(
    worker: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, end = saved(tmp_path, "start", table(1)), saved(tmp_path, "end", table(1) * 1e30)
    found = worker.losses(start, end, [0.0, 1.0])
    assert found == [pytest.approx(loss_of(table(1)), rel=1e-5), float("inf")]
    monkeypatch.setattr(Plugin, "scalar", staticmethod(lambda logits: logits.sum() * float("nan")))
    with pytest.raises(Failure, match=r"loss\(\) returned nan"):
        worker.losses(start, end, [0.0, 1.0])


def test_without_batches_there_is_no_loss(worker: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plugin, "batches", staticmethod(list))
    start = saved(tmp_path, "start", table(1))
    with pytest.raises(Failure, match="yields nothing"):
        worker.losses(start, start, [0.0])
    with pytest.raises(Failure, match="yields nothing"):
        worker.gradient(start, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_the_loss_of_every_batch_by_itself(worker: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = table(1)
    model = saved(tmp_path, "model", values)
    expected = [float(2 * (values @ values[row]).sum()) for row in (0, 2)]
    assert worker.losses_by_batch(model) == pytest.approx(expected, rel=1e-5)
    assert worker.losses_by_batch(model, batches=1) == pytest.approx(expected[:1], rel=1e-5)
    assert sum(worker.losses_by_batch(model)) / 2 == pytest.approx(loss_of(values), rel=1e-5)
    huge = saved(tmp_path, "huge", values * 1e30)
    assert worker.losses_by_batch(huge) == [float("inf")] * 2, (
        "whether the model or the plug-in is bad is not said here"
    )
    monkeypatch.setattr("mergenode.adapters.tasks.objective_calls.MOST_SAMPLES", 1)
    with pytest.raises(Failure, match="more than 1 batches"):
        worker.losses_by_batch(model)
    monkeypatch.setattr(Plugin, "batches", staticmethod(list))
    with pytest.raises(Failure, match="yields nothing"):
        worker.losses_by_batch(model)


@pytest.mark.parametrize("answer", [[], [1.0, 2.0], ["1"], [True], {"a": 1.0}, None, 1.0])
def test_an_answer_that_is_no_list_of_losses_is_none(answer: object, tmp_path: Path) -> None:
    class Forges(TaskWorker):
        def _ask(self, request: Any, progress: object = None, *, seconds: float | None = None) -> Any:
            return answer

    with pytest.raises(TransientError, match="batch by batch answered with something else"):
        Forges(TaskProgram(entrypoint="a:B")).losses_by_batch(tmp_path, batches=1)


def test_two_models_that_do_not_fit_are_told_by_name(worker: Asked, tmp_path: Path) -> None:
    start = saved(tmp_path, "start", table(1))
    wide = saved(tmp_path, "wide", torch.zeros(4, 5))
    both = saved(tmp_path, "both", table(1), **{"out.weight": table(1)})
    for end, said in (
        (wide, r"'table.weight' has shape \[4, 3\] in the model and \[4, 5\]"),
        (both, "'out.weight' is in one"),
    ):
        with pytest.raises(Failure, match=said) as caught:
            worker.losses(start, end, [0.0])
        assert caught.value.kind == "unfit"
    with pytest.raises(Failure, match="absent") as caught:
        worker.losses(start, tmp_path / "absent", [0.0])
    assert caught.value.kind == "checkpoint"


@settings(deadline=None, max_examples=50)
@given(gamma=st.floats(-2, 2), seed=st.integers(0, 9))
def test_the_ends_are_exact_and_between_is_the_straight_line(
    tmp_path_factory: pytest.TempPathFactory, gamma: float, seed: int
) -> None:
    folder, model = tmp_path_factory.mktemp("segment"), Tied()
    a, b = table(seed), table(seed + 10) * 100
    start, end = saved(folder, "start", a), saved(folder, "end", b, steps=torch.tensor(9))
    with open_segment(model, start, end) as fill:
        for end_point, expected in ((0.0, a), (1.0, b)):
            fill(end_point)
            assert torch.equal(model.table.weight, expected) and not model.training
        fill(gamma)
        exact = a.double() + gamma * (b.double() - a.double())
        assert torch.allclose(model.table.weight.double(), exact, rtol=1e-5, atol=1e-4)
        assert model.steps.item() == 7
