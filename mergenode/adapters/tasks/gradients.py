"""Gradients of a loss: their mean over batches, and squared, example by example, the diagonal Fisher."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from mergenode.adapters.tasks.failure import Failure


def diagonal_fisher(
    model: nn.Module, wanted: Mapping[int, str], examples: Iterable[Any], loss: Callable[[nn.Module, Any], Any]
) -> tuple[dict[str, Tensor], int]:
    """Mean over examples of the squared gradient, fp32, by the names of ``wanted``; and the number of examples.

    F = 1/n sum (d loss(x_i) / d theta)^2 (Matena and Raffel 2022, equation 3, with the loss of the plug-in in place of
    an expectation over the model's own labels): exact per example, because the square of a mean over a batch is
    another number. Parameters that do not require a gradient have none.

    Raises:
        Failure: ``invalid``: the loss is no finite scalar that can be differentiated, or there are no examples.
    """
    tuned = _tuned(model, wanted)
    sums = {name: torch.zeros_like(parameter, dtype=torch.float32) for name, parameter in tuned.items()}
    count = 0
    for example in examples:
        differentiate(checked_loss(loss(model, example)), tuned, sums)
        count += 1
    if not count:
        raise Failure("invalid", "there are no examples", "calibration_batches() has to yield at least one batch.")
    _divide(sums, count)
    return sums, count


def mean_gradient(
    model: nn.Module, wanted: Mapping[int, str], batches: Iterable[Any], loss: Callable[[nn.Module, Any], Any]
) -> tuple[dict[str, Tensor], float, int]:
    """Gradient of the mean of ``loss`` over batches, fp32, by the names of ``wanted``; that mean; number of batches.

    Batches count alike, whatever their size. Parameters that no batch depends on are left out, as are those that do
    not require a gradient. The model is left as it was.

    Raises:
        Failure: ``invalid``: a loss is no finite scalar that can be differentiated, or there are no batches.
    """
    tuned = _tuned(model, wanted)
    sums: dict[str, Tensor] = {}
    losses = []
    for batch in batches:
        value = checked_loss(loss(model, batch))
        gradients = torch.autograd.grad(value, list(tuned.values()), allow_unused=True)
        for (name, parameter), gradient in zip(tuned.items(), gradients, strict=True):
            if gradient is not None:
                if name not in sums:
                    sums[name] = torch.zeros_like(parameter, dtype=torch.float32)
                sums[name].add_(gradient.float())
        losses.append(float(value.detach()))
    if not losses:
        raise Failure("invalid", "calibration_batches() yields nothing", "It has to yield at least one batch.")
    if not sums:
        raise Failure("invalid", "loss() depends on no tensor of the checkpoint", "Compute it from the given model.")
    _divide(sums, len(losses))
    return sums, sum(losses) / len(losses), len(losses)


def scalar_loss(value: object) -> Tensor:
    """The loss when it is a scalar tensor, finite or not. Raises Failure: ``invalid``."""
    if not isinstance(value, Tensor) or value.numel() != 1:
        what = f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise Failure("invalid", f"loss() returned {what}", "It has to return a scalar tensor.")
    return value


def checked_loss(returned: object) -> Tensor:
    """The loss when it is one. Raises Failure: ``invalid``."""
    value = scalar_loss(returned)
    if not value.requires_grad:
        raise Failure("invalid", "loss() returned a tensor without gradient", "Compute it from the model it is given.")
    if not isfinite(float(value.detach())):
        raise Failure("invalid", f"loss() returned {float(value.detach())}", "It has to be finite.")
    return value


def differentiate(loss: Tensor, tuned: Mapping[str, nn.Parameter], sums: Mapping[str, Tensor]) -> None:
    """Add the squared gradient of one loss to ``sums``; parameters that it does not depend on add nothing."""
    gradients = torch.autograd.grad(loss, list(tuned.values()), allow_unused=True)
    for total, gradient in zip(sums.values(), gradients, strict=True):
        if gradient is not None:
            total.addcmul_(gradient.float(), gradient.float())


def _tuned(model: nn.Module, wanted: Mapping[int, str]) -> dict[str, nn.Parameter]:
    """Parameters that require a gradient, by name. Raises Failure: ``invalid``: there are none."""
    tuned = {wanted[id(p)]: p for p in model.parameters() if p.requires_grad and id(p) in wanted}
    if not tuned:
        raise Failure("invalid", "there are no parameters that require a gradient", "Look at build_model().")
    return tuned


def _divide(sums: Mapping[str, Tensor], count: int) -> None:
    for name, total in sums.items():
        if not bool(total.div_(count).isfinite().all()):
            raise Failure("invalid", f"the gradient of {name!r} is not finite", "Look at loss().")
