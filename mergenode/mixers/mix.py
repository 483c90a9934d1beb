"""Adding up models that are in the same order of units, and what has to be done to the sum."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor, nn

from mergenode.errors import UsageError
from mergenode.mixers.activation_matching import Batch, Run, on_positional
from mergenode.mixers.symmetry import State

ROUNDING = 1e-9
"""By how much shares may exceed one in sum."""


@dataclass(frozen=True, slots=True)
class Share:
    """A neighbour's model, in the order of our units, and its weight in [0, 1]."""

    state: State
    weight: float


def mix(own: State, shares: Sequence[Share]) -> dict[str, Tensor]:
    """``own + sum_j w_j (theta_j - own)``: what is left of one is the share of ``own``.

    In fp64 and in the order given, rounded once to the dtype of ``own``; equal models give that model bit for bit.
    What is not floating point stays ours. New tensors, also where nothing changes.

    Raises:
        ValueError: names or shapes differ, a share is negative or not finite, or they exceed one in sum.
    """
    weights = [share.weight for share in shares]
    if not all(isfinite(weight) and weight >= 0 for weight in weights) or sum(weights) > 1 + ROUNDING:
        raise ValueError(f"shares of {weights} leave nothing sensible for our own model")
    for share in shares:
        odd = share.state.keys() ^ own.keys() or {n for n in own if own[n].shape != share.state[n].shape}
        if odd:
            raise ValueError(f"{min(odd)!r} is not the same tensor in both models")
    return {name: _mixed(tensor, name, shares) for name, tensor in own.items()}


def _mixed(own: Tensor, name: str, shares: Sequence[Share]) -> Tensor:
    if not own.is_floating_point():
        return own.clone()
    start = own.double()
    step = torch.zeros_like(start)
    for share in shares:
        step += share.weight * (share.state[name].double() - start)
    return (start + step).to(own.dtype)


def reestimate_batch_norm(model: nn.Module, batches: Iterable[Batch], run: Run = on_positional) -> int:
    """Means and variances of the BatchNorm layers of ``model`` anew, from what they see of ``batches``, in place.

    After mixing they belong to none of the networks that were mixed. Each layer's statistics become the plain average
    over batches, each batch normalised by its own statistics; everything else (dropout) is in evaluation mode, and
    modes and momentum are as before in the end. Returns the number of batches; a model without such layers is left
    alone and no batch is asked for. If a batch fails, the model keeps the statistics it had.

    Raises:
        UsageError: there are no batches.
    """
    layers = [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]
    if not layers:
        return 0
    modes = {module: module.training for module in model.modules()}
    before = [(layer.momentum, {name: each.clone() for name, each in layer.named_buffers()}) for layer in layers]
    try:
        model.eval()
        seen = _run_with_fresh_statistics(model, layers, batches, run)
    except BaseException:
        for layer, (_, buffers) in zip(layers, before, strict=True):
            for name, held in layer.named_buffers():
                held.copy_(buffers[name])
        raise
    finally:
        for layer, (momentum, _) in zip(layers, before, strict=True):
            layer.momentum = momentum
        for module, training in modes.items():
            module.training = training
    return seen


def _run_with_fresh_statistics(
    model: nn.Module, layers: Sequence[nn.modules.batchnorm._BatchNorm], batches: Iterable[Batch], run: Run
) -> int:
    """The number of batches over which the layers now hold averages; their momentum and mode are changed."""
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    seen = 0
    with torch.no_grad():
        for batch in batches:
            run(model, batch)
            seen += 1
    if not seen:
        raise UsageError("no batches to estimate BatchNorm statistics on", hint="Give at least one.")
    return seen
