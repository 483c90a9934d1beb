"""A plug-in for tests of rounds: a tiny network on made-up data, different for each node. Free of chance."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def network(seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5)
    return model


class Task:
    """``number``: of the node, whose data it has."""

    def __init__(self, number: int = 0) -> None:
        generator = torch.Generator().manual_seed(100 + number)
        self.inputs = torch.randn(64, 6, generator=generator)
        self.labels = (self.inputs[:, :3] + 0.3 * self.inputs[:, 3:]).argmax(dim=1)

    def build_model(self) -> nn.Module:
        return network(seed=0)

    def calibration_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.inputs[:32], self.labels[:32]
        yield self.inputs[32:], self.labels[32:]

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs, labels = batch
        return functional.cross_entropy(model(inputs), labels)

    def train(self, model: nn.Module, round: int) -> dict[str, Any]:
        assert model.training
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for batch in self.calibration_batches():
            optimizer.zero_grad()
            loss = self.loss(model, batch)
            loss.backward()
            optimizer.step()
        return {"loss": loss, "round": round}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        return {"accuracy": float((model(self.inputs).argmax(dim=1) == self.labels).float().mean())}


def _numbered(number: int) -> str:
    return f"class Task{number}(Task):\n    def __init__(self):\n        super().__init__({number})\n\n\n"


HEADER = (
    "from collections.abc import Iterator\nfrom typing import Any\nimport torch\nfrom torch import Tensor, nn\n"
    "from torch.nn import functional\n\n"
)
SOURCE = HEADER + "\n\n".join(map(inspect.getsource, (network, Task))) + "\n\n" + "".join(map(_numbered, range(8)))
"""The same as a module of its own: classes Task0, Task1, ..."""
