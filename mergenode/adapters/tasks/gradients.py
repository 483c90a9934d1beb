"""Squared gradients of a loss, example by example: the diagonal Fisher of a side-car."""

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
    tuned = {wanted[id(p)]: p for p in model.parameters() if p.requires_grad and id(p) in wanted}
    sums = {name: torch.zeros_like(parameter, dtype=torch.float32) for name, parameter in tuned.items()}
    if not sums:
        raise Failure("invalid", "there are no parameters that require a gradient", "Look at build_model().")
    count = 0
    for example in examples:
        differentiate(checked_loss(loss(model, example)), tuned, sums)
        count += 1
    if not count:
        raise Failure("invalid", "there are no examples", "calibration_batches() has to yield at least one batch.")
    for name, total in sums.items():
        if not bool(total.div_(count).isfinite().all()):
            raise Failure("invalid", f"the gradient of {name!r} is not finite", "Look at loss().")
    return sums, count


def checked_loss(value: object) -> Tensor:
    """The loss when it is one. Raises Failure: ``invalid``."""
    if not isinstance(value, Tensor) or value.numel() != 1:
        what = f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise Failure("invalid", f"loss() returned {what}", "It has to return a scalar tensor.")
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
