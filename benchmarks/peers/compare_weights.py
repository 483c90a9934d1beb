"""How far two merged checkpoints are apart, tensor by tensor, in units of the update that was merged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors import safe_open

Tensors = Callable[[str], torch.Tensor]
"""A tensor of a checkpoint by name, float64."""


def open_checkpoint(directory: Path) -> tuple[list[str], Tensors]:
    """Names and reader of a checkpoint in Hugging Face layout. FileNotFoundError: no safetensors there."""
    index = directory / "model.safetensors.index.json"
    if index.exists():
        files = dict(json.loads(index.read_text())["weight_map"])
    else:
        with safe_open(directory / "model.safetensors", "pt") as only:
            files = dict.fromkeys(only.keys(), "model.safetensors")

    def read(name: str) -> torch.Tensor:
        with safe_open(directory / files[name], "pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
        return tensor.double()

    return sorted(files), read


def relative_difference(ours: Path, theirs: Path, base: Path) -> float:
    """||ours - theirs|| / ||theirs - base|| over all tensors (Frobenius, float64).

    KeyError: a tensor of ``base`` is missing from one of the merges.
    """
    names, read_base = open_checkpoint(base)
    (_, read_ours), (_, read_theirs) = open_checkpoint(ours), open_checkpoint(theirs)
    pairs = ((read_ours(name), read_theirs(name), read_base(name)) for name in names)
    return _ratio((a - b, b - zero) for a, b, zero in pairs)


def norm_error(merged: Path, base: Path, models: Sequence[Path]) -> float:
    """||merged - base|| over the mean length of the updates, minus one, in float64: zero by OPCM's definition.

    Source: Tang et al. 2025, arXiv 2501.09522, Algorithm 1 (the merged update is rescaled to the mean norm).
    """
    names, read_base = open_checkpoint(base)
    readers = [open_checkpoint(checkpoint)[1] for checkpoint in (merged, *models)]
    squares = [0.0] * len(readers)
    for name in names:
        zero = read_base(name)
        for place, read in enumerate(readers):
            squares[place] += float((read(name) - zero).square().sum())
    length, *updates = (square**0.5 for square in squares)
    return float(length * len(updates) / sum(updates) - 1)


def error_of_sum(merged: Path, base: Path, models: Sequence[Path], scale: float) -> float:
    """Distance of ``merged`` from base + scale * sum of updates, over the length of that sum, in float64."""
    names, read_base = open_checkpoint(base)
    _, read_merged = open_checkpoint(merged)
    readers = [open_checkpoint(model)[1] for model in models]

    def terms() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for name in names:
            zero = read_base(name)
            exact = scale * sum((read(name) - zero for read in readers), torch.zeros_like(zero))
            yield read_merged(name) - zero - exact, exact

    return _ratio(terms())


def rounding_of_sum(base: Path, models: Sequence[Path], scale: float) -> float:
    """The error that any bf16 output of that sum has: the exact result rounded once, compared with itself."""
    names, read_base = open_checkpoint(base)
    readers = [open_checkpoint(model)[1] for model in models]

    def terms() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for name in names:
            zero = read_base(name)
            exact = scale * sum((read(name) - zero for read in readers), torch.zeros_like(zero))
            yield (zero + exact).bfloat16().double() - zero - exact, exact

    return _ratio(terms())


def _ratio(terms: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> float:
    difference = length = 0.0
    for numerator, denominator in terms:
        difference += float(numerator.square().sum())
        length += float(denominator.square().sum())
    return float((difference / length) ** 0.5)
