"""What a plug-in may return, and which models fit a checkpoint; asked in this process, without any pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mergenode.adapters.tasks.calls import Calls
from mergenode.adapters.tasks.failure import Failure


class Linear:
    """A plug-in for the checkpoint below, one answer of which a test replaces."""

    model: Callable[[], object] = staticmethod(lambda: nn.Linear(3, 2))
    scores: Callable[[nn.Module], object] = staticmethod(
        lambda model: {"sum": sum(p.sum() for p in model.parameters())}
    )

    def build_model(self) -> object:
        return type(self).model()

    def evaluate(self, model: nn.Module) -> object:
        return type(self).scores(model)


def tied() -> nn.Module:
    model = nn.ModuleDict({"one": nn.Linear(3, 2), "two": nn.Linear(3, 2)})
    model["two"].weight, model["two"].bias = model["one"].weight, model["one"].bias
    return model


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save_file({"weight": torch.ones(2, 3).half(), "bias": torch.zeros(2)}, tmp_path / "model.safetensors")
    return tmp_path


def evaluated(monkeypatch: pytest.MonkeyPatch, checkpoint: Path, **replaced: Any) -> Any:
    plugin = type("Plugin", (Linear,), {name: staticmethod(value) for name, value in replaced.items()})
    monkeypatch.setattr(sys.modules[__name__], "Plugin", plugin, raising=False)
    calls = Calls(f"{__name__}:Plugin", lambda done, total: None)
    return calls.answer({"call": "evaluate", "checkpoint": str(checkpoint)})


def refused(monkeypatch: pytest.MonkeyPatch, checkpoint: Path, **replaced: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        evaluated(monkeypatch, checkpoint, **replaced)
    assert caught.value.hint
    return caught.value


def test_a_score_is_a_number_of_the_filled_model(monkeypatch: pytest.MonkeyPatch, checkpoint: Path) -> None:
    assert evaluated(monkeypatch, checkpoint) == {"sum": 6.0}


@pytest.mark.parametrize(
    "returned",
    [
        None, {}, 0.5, [0.5], {"a": None}, {"a": "good"}, {"a": float("nan")}, {"a": float("inf")}, {1: 0.5},
        {"": 0.5}, {"a": torch.ones(2)}, {"n" * 201: 0.5}, dict.fromkeys(map(str, range(1001)), 0.5),
    ],
)  # fmt: skip
def test_what_is_no_score_is_refused(monkeypatch: pytest.MonkeyPatch, checkpoint: Path, returned: object) -> None:
    failure = refused(monkeypatch, checkpoint, scores=lambda model: returned)
    assert failure.kind == "invalid"
    assert len(str(failure)) < 500


@pytest.mark.parametrize(
    ("model", "kind", "said"),
    [
        (lambda: {"weight": 1}, "invalid", "build_model() returned dict"),
        (lambda: nn.Linear(4, 2), "unfit", "'weight' has shape [2, 4] in the model and [2, 3]"),
        (lambda: nn.Sequential(nn.Linear(3, 2)), "unfit", "no weights for '0.weight', '0.bias'"),
        (lambda: nn.Linear(3, 2, bias=False), "unfit", "no place for 'bias'"),
        (lambda: nn.Sequential(*(nn.Linear(1, 1) for _ in range(9))), "unfit", "and 13 more"),
    ],
)
def test_a_model_that_does_not_fit_is_told_by_name(
    monkeypatch: pytest.MonkeyPatch, checkpoint: Path, model: Callable[[], object], kind: str, said: str
) -> None:
    failure = refused(monkeypatch, checkpoint, model=model)
    assert failure.kind == kind
    assert said in str(failure)


def test_tied_weights_need_one_of_their_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    save_file({"one.weight": torch.ones(2, 3), "one.bias": torch.zeros(2)}, tmp_path / "model.safetensors")
    scores = evaluated(monkeypatch, tmp_path, model=tied, scores=lambda model: {"two": model["two"].weight.sum()})
    assert scores == {"two": 6.0}
    save_file({"one.weight": torch.ones(2, 3)}, tmp_path / "model.safetensors")
    assert "no weights for 'one.bias', 'two.bias'" in str(refused(monkeypatch, tmp_path, model=tied))


def test_a_damaged_checkpoint_is_told_as_such(monkeypatch: pytest.MonkeyPatch, checkpoint: Path) -> None:
    content = (checkpoint / "model.safetensors").read_bytes()
    (checkpoint / "model.safetensors").write_bytes(content[:-1])
    assert refused(monkeypatch, checkpoint).kind == "checkpoint"


def test_a_method_that_is_not_there_is_told_with_what_it_is_for(checkpoint: Path) -> None:
    with pytest.raises(Failure) as caught:
        Calls(f"{__name__}:NotYet", lambda done, total: None).answer(
            {"call": "evaluate", "checkpoint": str(checkpoint)}
        )
    assert caught.value.kind == "missing"
    assert "scale: evaluate" in caught.value.hint


class NotYet:
    """A plug-in without methods."""
