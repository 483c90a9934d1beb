"""Side-cars for the models of ``tests/support/models.py``: Fishers and Grams as data would have made them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.support.models import HEAD

Tensors = dict[str, Tensor]


def fishers(base: Mapping[str, Tensor], seed: int) -> Tensors:
    """Squared gradients of every float weight, over orders of magnitude, 0 in places."""
    found: Tensors = {}
    for name, tensor in base.items():
        if tensor.is_floating_point() and name != HEAD:
            values = torch.randn(tensor.shape, generator=_draw(name, 3000 + seed)).mul(2.0).exp() * 10.0**-seed
            values.view(-1)[::5] = 0.0
            found[name] = values
    return found


def grams(base: Mapping[str, Tensor], seed: int) -> Tensors:
    """Second moments of correlated inputs with a mean, for every 2-D weight that is named like a layer's."""
    found: Tensors = {}
    for name, tensor in base.items():
        if tensor.is_floating_point() and tensor.ndim == 2 and name.startswith("layers.") and tensor.numel():
            width, draw = tensor.shape[1], _draw(name, 4000 + seed)
            mixing = torch.randn((width, width), generator=draw)
            inputs = torch.randn((2 * width, width), generator=draw) @ mixing + 1.0 + seed
            found[name] = inputs.T @ inputs / len(inputs)
    return found


def _draw(name: str, seed: int) -> torch.Generator:
    """The same values for a name, whatever other names there are and in which order."""
    return torch.Generator().manual_seed(10_000 * seed + sum(name.encode()))


def write_side_cars(directory: Path, base: Mapping[str, Tensor], seed: int, *, stem: str = "model") -> Path:
    """Both side-cars beside the weights in ``directory``."""
    save_file(fishers(base, seed), directory / f"{stem}.fisher.safetensors")
    save_file(grams(base, seed), directory / f"{stem}.gram.safetensors")
    return directory
