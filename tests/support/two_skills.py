"""A small network with two skills, and its plug-in: what protects one while the other is learnt shows on it."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from tests.support.checkpoints import Tensors

ROOT = Path(__file__).parents[2]

CLASSES, FEATURES = 4, 8
SKILLS = ("old", "new")


def network() -> nn.Module:
    """Two groups of inputs; which one decides is the first input."""
    return nn.Sequential(nn.Linear(1 + 2 * FEATURES, 64), nn.Tanh(), nn.Linear(64, CLASSES))


def examples(skill: str, seed: int, count: int = 512) -> tuple[Tensor, Tensor]:
    """Inputs and classes. Each skill has its own centres, in inputs of its own, and noise in those of the other."""
    centres = torch.randn(
        (CLASSES, FEATURES), generator=torch.Generator().manual_seed(len(skill) + SKILLS.index(skill))
    )
    draw = torch.Generator().manual_seed(100 * seed + SKILLS.index(skill))
    classes = torch.randint(CLASSES, (count,), generator=draw)
    inputs = torch.randn((count, 1 + 2 * FEATURES), generator=draw) * 0.5
    inputs[:, 0] = 1.0 if skill == "new" else -1.0
    start = 1 + FEATURES * SKILLS.index(skill)
    inputs[:, start : start + FEATURES] += centres[classes]
    return inputs, classes


def loss_of(model: nn.Module, inputs: Tensor, classes: Tensor) -> Tensor:
    return functional.cross_entropy(model(inputs), classes)


@torch.no_grad()
def accuracies(model: nn.Module) -> dict[str, float]:
    found = {}
    for skill in SKILLS:
        inputs, classes = examples(skill, 2)
        found[skill] = float((model(inputs).argmax(1) == classes).double().mean())
    return found


def trained(start: Tensors | None, skill: str, *, steps: int = 150, rate: float = 0.01, seed: int = 0) -> Tensors:
    """Weights after training on one skill."""
    torch.manual_seed(seed)
    model = network()
    if start is not None:
        model.load_state_dict(start)
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    inputs, classes = examples(skill, 3 + seed)
    for _ in range(steps):
        optimiser.zero_grad()
        loss_of(model, inputs, classes).backward()
        optimiser.step()
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def scores(weights: Tensors) -> dict[str, float]:
    model = network()
    model.load_state_dict(weights)
    return accuracies(model)


def scores_at(directory: Path) -> dict[str, float]:
    """Scores of a published version."""
    return scores(load_file(directory / "model.safetensors"))


def write(directory: Path, weights: Tensors) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    save_file(weights, directory / "model.safetensors", {"format": "pt"})
    return directory


class Skills:
    """The plug-in. Calibration is on the old skill: it is the one to protect."""

    def build_model(self) -> nn.Module:
        return network()

    def calibration_batches(self) -> list[tuple[Tensor, Tensor]]:
        inputs, classes = examples("old", 1, 256)
        return [(inputs[start : start + 64], classes[start : start + 64]) for start in range(0, len(inputs), 64)]

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return loss_of(model, *batch)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        return accuracies(model)


class Raises(Skills):
    """A plug-in that has lost its data."""

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        raise RuntimeError("the test set is gone")


def task(name: str = "Skills") -> dict[str, str]:
    """The section ``task`` of a node that has this plug-in."""
    return {"entrypoint": f"tests.support.two_skills:{name}", "path": str(ROOT)}
