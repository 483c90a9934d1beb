"""Training one model to agree with sums over others, on inputs that the plug-in makes up; in the plug-in's process."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from mergenode.adapters.tasks.failure import Failure
from mergenode.maths.probe_sums import ProbeSums, disagreement

Outputs = Callable[[nn.Module, Any], Any]
"""``outputs(model, batch)`` of a plug-in."""

_OTHER = "probes() has to yield the same inputs every time; begin new sums where it cannot."

WARM_UP = 30
"""Most steps over which the learning rate rises: Adam's first steps are as long as its later ones, in any direction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """``epochs`` over all batches in random orders that depend on ``seed``; learning ``rate``, falling to zero."""

    epochs: int = 1
    rate: float = 1e-4
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Refined:
    """``before``, ``after``: mean disagreement over all inputs, without the part that no model can change."""

    steps: int
    before: float
    after: float


def checked_outputs(returned: object) -> Tensor:
    """What ``outputs`` returned, as (n, d). Raises Failure: ``invalid``."""
    if not isinstance(returned, Tensor) or returned.ndim != 2 or not returned.numel():
        what = f"a tensor of shape {list(returned.shape)}" if isinstance(returned, Tensor) else type(returned).__name__
        raise Failure("invalid", f"outputs() returned {what}", "It has to return a tensor (examples, width).")
    return returned.float()


def probes_of(returned: object) -> list[Any]:
    """All batches of ``probes()``, which are small: inputs that a generator made. Raises Failure: ``invalid``."""
    batches = list(returned) if isinstance(returned, Iterable) else []
    if not batches:
        raise Failure("invalid", "probes() yields nothing", "It has to yield at least one batch.")
    return batches


def all_outputs(model: nn.Module, batches: Sequence[Any], outputs: Outputs, told: Callable[[int, int], None]) -> Tensor:
    """Outputs for every batch in order, (n, d), fp32, without gradients. ``told``: (batches done, in all)."""
    parts = []
    with torch.no_grad():
        for number, batch in enumerate(batches):
            told(number, len(batches))
            parts.append(checked_outputs(outputs(model, batch)))
    return torch.cat(parts)


def refine(
    model: nn.Module, tuned: Sequence[nn.Parameter], batches: Sequence[Any], outputs: Outputs, sums: ProbeSums,
    schedule: Schedule, told: Callable[[int, int], None] = lambda done, total: None,
) -> Refined:  # fmt: skip
    """Train ``tuned`` in place so that the model's outputs agree with ``sums``, whose rows are those of ``batches``.

    AdamW without decay; the other parameters stay as they are. The model is used in the mode that it comes in.
    The same inputs and threads give the same weights. ``told``: (steps done, steps in all).

    Raises:
        Failure: ``invalid``: outputs of another shape than the sums, without gradient, or no longer finite.
    """
    rows, before = _looked_at(model, batches, outputs, sums)
    total = schedule.epochs * len(batches)
    optimiser = torch.optim.AdamW(tuned, lr=schedule.rate, weight_decay=0.0)
    warm_up = min(WARM_UP, max(1, total // 10))
    rates = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / warm_up) * (1 - step / total)
    )
    draw = random.Random(schedule.seed)  # noqa: S311 - an order of batches, nothing secret
    steps = 0
    for _ in range(schedule.epochs):
        order = list(range(len(batches)))
        draw.shuffle(order)
        for number in order:
            told(steps, total)
            loss = disagreement(checked_outputs(outputs(model, batches[number])), sums.metric, rows[number])
            if not loss.requires_grad:
                raise Failure("invalid", "outputs() returned a tensor without gradient", "Compute it from the model.")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # as torch declares it
            optimiser.step()
            rates.step()
            steps += 1
    optimiser.zero_grad(set_to_none=True)
    _, after = _looked_at(model, batches, outputs, sums)
    if not isfinite(after):
        raise Failure("invalid", "the refined model is not finite", "Lower the learning rate (--rate).")
    return Refined(steps, before, after)


def _looked_at(
    model: nn.Module, batches: Sequence[Any], outputs: Outputs, sums: ProbeSums
) -> tuple[list[Tensor], float]:
    """The targets of each batch, and the mean disagreement. Raises Failure: ``invalid``: sums over other inputs."""
    wanted = list(sums.targets.shape)
    rows: list[Tensor] = []
    total, start = 0.0, 0
    with torch.no_grad():
        for batch in batches:
            found = checked_outputs(outputs(model, batch))
            rows.append(sums.targets[start : start + len(found)])
            start += len(found)
            if found.shape != rows[-1].shape:
                raise Failure("invalid", f"outputs() returned {list(found.shape)} beyond sums over {wanted}", _OTHER)
            total += float(disagreement(found, sums.metric, rows[-1])) * len(found)
    if start != wanted[0]:
        raise Failure("invalid", f"probes() and outputs() give {start} rows, the sums are over {wanted}", _OTHER)
    return rows, total / start
