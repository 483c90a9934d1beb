"""What an inspection measures, as its definitions read: whole tensors in float64, full decompositions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Literal:
    norm: float
    cosine: float | None
    conflict: float | None


def update(base: Mapping[str, Tensor], tuned: Mapping[str, Tensor], name: str) -> Tensor:
    """A task vector as the engine computes it: the difference in the accumulator's precision, then widened."""
    wide = torch.float64 if base[name].dtype is torch.float64 else torch.float32
    return (tuned[name].to(wide) - base[name].to(wide)).double()


def literal(
    base: Mapping[str, Tensor], tuned: Mapping[str, Tensor], merge: Mapping[str, Tensor], names: list[str]
) -> Literal:
    """The numbers of the tensors ``names``, element by element."""
    delta = torch.cat([update(base, tuned, name).reshape(-1) for name in names])
    other = torch.cat([update(base, merge, name).reshape(-1) for name in names])
    norm = float(delta.square().sum().sqrt())
    scale = norm * float(other.square().sum().sqrt())
    against = compared = 0.0
    for d, m in zip(delta.tolist(), other.tolist(), strict=True):
        compared += abs(d) if m != 0 else 0.0
        against += abs(d) if d * m < 0 else 0.0
    return Literal(norm, float(delta @ other) / scale if scale else None, against / compared if compared else None)


def literal_median(matrices: list[tuple[Tensor, int]], directions: int) -> float | None:
    """The excess in the leading directions of (matrix, rank), each counted with its energy, by sorting."""
    rows = []
    for matrix, rank in matrices:
        squares = torch.linalg.svdvals(matrix.double()).square()
        if rank > directions and float(squares.sum()):
            share = float(squares[:directions].sum() / squares.sum())
            rows.append((max(0.0, (share - directions / rank) / (1 - directions / rank)), float(squares.sum())))
    total = sum(energy for _, energy in rows)
    reached = 0.0
    for excess, energy in sorted(rows):
        reached += energy
        if reached >= total / 2 * (1 - 1e-9):
            return excess
    return None
