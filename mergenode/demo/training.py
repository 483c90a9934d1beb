"""Training of the demo: a base, fine-tunes of it, and a low-rank adapter. Fixed seeds, one thread, seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from mergenode.demo.network import FormReader, NetworkConfig, Weights
from mergenode.demo.tasks import HOME, Digits, Task

ADAPTED = ("mix", "layers.0.up_proj", "layers.0.down_proj", "layers.1.up_proj", "layers.1.down_proj")
"""Modules that the adapter changes."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """``rate``: peak learning rate of the input side. ``depth_factor``: of the layers behind it, relative to that.

    Layer-wise rates are how networks are fine-tuned for a new kind of input without forgetting what they can do.
    """

    steps: int
    rate: float
    depth_factor: float = 1.0
    batch: int = 64


BASE_SCHEDULE = Schedule(steps=1000, rate=1e-3)
FINE_TUNE_SCHEDULE = Schedule(steps=300, rate=6e-3, depth_factor=0.1)
ADAPTER_SCHEDULE = Schedule(steps=400, rate=1e-2, depth_factor=0.1)


@dataclass(frozen=True, slots=True)
class Adapter:
    """Low-rank updates by module: ``weight += alpha / rank * up @ down``; down ``[r, in]``, up ``[out, r]``."""

    rank: int
    alpha: int
    down: Mapping[str, Tensor]
    up: Mapping[str, Tensor]

    def applied_to(self, base: Weights) -> dict[str, Tensor]:
        """The base with the adapter merged in; new tensors."""
        weights = {name: tensor.clone() for name, tensor in base.items()}
        for module, down in self.down.items():
            weights[f"{module}.weight"] += self.alpha / self.rank * (self.up[module] @ down)
        return weights


def train_base(
    digits: Digits, config: NetworkConfig, seed: int, schedule: Schedule = BASE_SCHEDULE, task: Task = HOME
) -> Weights:
    """A network trained from scratch, on the home field unless told otherwise. Same seed, same weights."""
    network = FormReader(config, seed)
    _descend(network, [{"params": list(network.parameters()), "lr": schedule.rate}], digits, task, schedule, seed)
    return _weights(network)


def fine_tune(
    base: Weights, task: Task, digits: Digits, config: NetworkConfig, seed: int, schedule: Schedule = FINE_TUNE_SCHEDULE
) -> Weights:
    """The base trained on for one field; the output head stays frozen. Same seed, same weights."""
    network = FormReader(config, seed)
    network.load_state_dict(dict(base))
    trained = [(name, each) for name, each in network.named_parameters() if not name.startswith("head.")]
    deep = ("layers.", "norm.")
    groups: list[dict[str, object]] = [
        {"params": [each for name, each in trained if not name.startswith(deep)], "lr": schedule.rate},
        {
            "params": [each for name, each in trained if name.startswith(deep)],
            "lr": schedule.rate * schedule.depth_factor,
        },
    ]
    network.head.requires_grad_(False)
    _descend(network, groups, digits, task, schedule, seed)
    return _weights(network)


def fine_tune_adapter(
    base: Weights, task: Task, digits: Digits, config: NetworkConfig, seed: int, schedule: Schedule = ADAPTER_SCHEDULE
) -> Adapter:
    """A LoRA adapter (Hu et al. 2021, arXiv 2106.09685, equation 3) for one field. Same seed, same factors."""
    rank, alpha = 8, 16
    generator = torch.Generator().manual_seed(seed)
    down: dict[str, Tensor] = {}
    up: dict[str, Tensor] = {}
    for module in ADAPTED:
        rows, columns = base[f"{module}.weight"].shape
        down[module] = (torch.randn(rank, columns, generator=generator) / columns**0.5).requires_grad_()
        up[module] = torch.zeros(rows, rank, requires_grad=True)
    network = FormReader(config, seed)
    groups: list[dict[str, object]] = [
        {
            "params": [down[module], up[module]],
            "lr": schedule.rate * (1.0 if module == "mix" else schedule.depth_factor),
        }
        for module in ADAPTED
    ]
    adapter = Adapter(rank, alpha, down, up)

    def forward(forms: Tensor) -> Tensor:
        logits: Tensor = functional_call(network, adapter.applied_to(base), (forms,))
        return logits

    _descend(forward, groups, digits, task, schedule, seed)
    return Adapter(
        rank,
        alpha,
        {module: factor.detach().clone() for module, factor in down.items()},
        {module: factor.detach().clone() for module, factor in up.items()},
    )


def _descend(
    model: Callable[[Tensor], Tensor],
    groups: Sequence[Mapping[str, object]],
    digits: Digits,
    task: Task,
    schedule: Schedule,
    seed: int,
) -> None:
    """AdamW with a one-cycle rate on random batches of one field; changes the parameters in ``groups`` in place."""
    forms, labels = task.forms(digits.train_images), digits.train_labels
    optimizer = torch.optim.AdamW([dict(group) for group in groups], weight_decay=0.0)
    peaks = [float(group["lr"]) for group in optimizer.param_groups]
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=schedule.steps, pct_start=0.1)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(schedule.steps):
        batch = torch.randint(len(labels), (schedule.batch,), generator=generator)
        loss = functional.cross_entropy(model(forms[batch]), labels[batch], label_smoothing=0.05)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        rates.step()


def _weights(network: nn.Module) -> Weights:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
