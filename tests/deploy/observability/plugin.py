"""A task plug-in for the small base whose mood is a file: it can fail, hang, train wildly or want something else.

``write`` copies this file beside a node. It imports nothing of this repository, as users' plug-ins do not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

WIDTH, LAYERS = 32, 6
MOOD = Path(__file__).with_name("mood.json")


def drawn(seed: int) -> list[Tensor]:
    """One direction of norm 1 per layer."""
    found = [torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(seed + n)) for n in range(LAYERS)]
    return [each / each.norm() for each in found]


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Linear(WIDTH, WIDTH, bias=False)


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))


class Net(nn.Module):
    """Six linear maps side by side; names as in the small base."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Body()

    def weights(self) -> list[Tensor]:
        return [layer.mlp.weight for layer in self.model.layers]  # type: ignore[union-attr, misc]

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x @ weight.T for weight in self.weights()])


class Task:
    """The loss is the squared distance to a goal, in the directions of the data."""

    def build_model(self) -> nn.Module:
        return Net()

    def calibration_batches(self) -> Iterator[Tensor]:
        yield torch.randn(64, WIDTH, generator=torch.Generator().manual_seed(7))

    def loss(self, model: Net, batch: Tensor) -> Tensor:
        self._may_fail("loss")
        goal = torch.stack([batch @ weight.T for weight in self._goal()])
        return (model(batch) - goal).square().mean() + 0.001

    def evaluate(self, model: Net) -> dict[str, float]:
        """``kept``: how little the second layer changed."""
        self._may_fail("evaluate")
        base = self._base()[1]
        return {"kept": max(0.0, 1.0 - 10 * float((model.weights()[1] - base).norm() / base.norm()))}

    def train(self, model: Net, round: int) -> dict[str, Any]:
        self._may_fail("train")
        while _mood().get("hangs"):
            time.sleep(0.1)
        time.sleep(0.2)  # training takes its time
        own = drawn(10_000 * int(_mood().get("number", 0)) + 100 * round)
        with torch.no_grad():
            for weight, goal, direction in zip(model.weights(), self._goal(), own, strict=True):
                target = goal if _mood().get("obeys") else weight
                weight.copy_(target + float(_mood().get("step", 0.01)) * goal.norm() * direction)
        return {"round": round}

    def _base(self) -> list[Tensor]:
        draw = torch.Generator().manual_seed(0)
        return [torch.randn(WIDTH, WIDTH, generator=draw) * 0.1 for _ in range(LAYERS)]

    def _goal(self) -> list[Tensor]:
        """The base, and parts of directions by their seeds."""
        goal = self._base()
        for seed, part in _mood().get("goal", {}).items():
            goal = [weight + part * weight.norm() * d for weight, d in zip(goal, drawn(int(seed)), strict=True)]
        return goal

    def _may_fail(self, where: str) -> None:
        if where in _mood().get("fails", ()):
            raise RuntimeError(f"the data for {where} are gone")


def _mood() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(MOOD.read_text())
    return found


def write(directory: Path, **mood: Any) -> dict[str, str]:
    """The plug-in in a directory; returns the section ``task``."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "moody.py").write_text(Path(__file__).read_text())
    set_mood(directory, **mood)
    return {"entrypoint": "moody:Task", "path": str(directory)}


def set_mood(directory: Path, **mood: Any) -> None:
    """From the next call on."""
    hidden = directory / ".mood.json"
    hidden.write_text(json.dumps(mood))
    hidden.rename(directory / "mood.json")
