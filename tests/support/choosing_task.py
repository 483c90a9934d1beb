"""A task whose loss is convex: two linear maps side by side, and the data of a goal that a mix can reach."""

from __future__ import annotations

import inspect
from pathlib import Path

import torch
from torch import Tensor, nn

WIDTH, OUT = 6, 4


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(WIDTH, OUT, bias=False), nn.Linear(WIDTH, OUT, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.left(x[:, :WIDTH]) + self.right(x[:, WIDTH:])


def weights(seed: int, size: float = 1.0) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {f"{side}.weight": size * torch.randn(OUT, WIDTH, generator=draw) for side in ("left", "right")}


def goal() -> dict[str, Tensor]:
    """The base, and half of each of two task vectors."""
    return {name: base + 0.4 * weights(1, 0.2)[name] + 0.4 * weights(2, 0.2)[name] for name, base in weights(0).items()}


class Task:
    def build_model(self) -> nn.Module:
        return Net()

    def calibration_batches(self) -> list[tuple[Tensor, Tensor]]:
        x = torch.randn(64, 2 * WIDTH, generator=torch.Generator().manual_seed(7))
        wanted = Net()
        wanted.load_state_dict(goal())
        with torch.no_grad():
            return [(part, wanted(part)) for part in x.split(32)]

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return (model(batch[0]) - batch[1]).square().mean() + 0.001


def write_plugin(directory: Path, name: str = "choosing_task") -> Path:
    """The task as a module of its own; returns its directory."""
    directory.mkdir(parents=True, exist_ok=True)
    header = f"import torch\nfrom torch import Tensor, nn\n\nWIDTH, OUT = {WIDTH}, {OUT}\n\n\n"
    source = "\n\n".join(map(inspect.getsource, (Net, weights, goal, Task)))
    (directory / f"{name}.py").write_text(header + source)
    return directory
