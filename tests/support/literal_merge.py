"""OPCM as its definition reads, in float64 with full singular value decompositions: slow, obvious, independent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import sqrt

import torch
from torch import Tensor


def code_rank(values: Tensor, alpha: float) -> int:
    """0-based index of the first value at which the running share of the sum exceeds alpha."""
    running, total = 0.0, float(values.sum())
    for index, value in enumerate(values.tolist()):
        running += value
        if running / total > alpha:
            return index
    raise AssertionError("alpha is at least 1")


def paper_rank(values: Tensor, alpha: float) -> int:
    """The smallest count of leading values whose sum reaches the share alpha."""
    running, total = 0.0, float(values.sum())
    for index, value in enumerate(values.tolist()):
        running += value
        if running / total >= alpha:
            return index + 1
    raise AssertionError("alpha is above 1")


def project(before: Tensor, delta: Tensor, *, alpha: float, variant: str, noise: float) -> tuple[Tensor, int]:
    """What of ``delta`` enters a running sum ``before``, both (m, n) float64, and the rank that was protected.

    The complete bases of both sides are formed and the coefficients of ``delta`` in them set to zero one by one.
    Directions whose singular value is below ``noise`` times the largest are rounding errors: they pass.
    """
    if not bool(before.any()):
        return delta.clone(), 0
    u, s, vh = torch.linalg.svd(before, full_matrices=True)
    coefficients = u.T @ delta @ vh.T
    supported = int((s > noise * s[0]).sum())
    rank = min(paper_rank(s, alpha) if variant == "paper" else code_rank(s, alpha), supported)
    for i in range(coefficients.shape[0]):
        for j in range(coefficients.shape[1]):
            block = (i < rank or j < rank) if variant == "paper" else (i < rank and j < rank)
            diagonal = variant in ("paper", "diagonal") and i == j and i < supported
            if block or diagonal:
                coefficients[i, j] = 0.0
    kept = u @ coefficients @ vh
    if variant == "block_orthogonal":
        kept = kept - float((kept * before).sum() / (before * before).sum()) * before
    return kept, rank


def norm(tensors: Iterable[Tensor]) -> float:
    return sqrt(sum(float((tensor * tensor).sum()) for tensor in tensors))


@dataclass
class LiteralMerge:
    """The unscaled sum of projected task vectors and the norms of those that arrived, all in float64."""

    base: Mapping[str, Tensor]
    projected: Callable[[str], bool]
    alpha: float = 0.5
    variant: str = "block"
    sums: dict[str, Tensor] = field(default_factory=dict)
    norms: list[float] = field(default_factory=list)
    ranks: dict[str, int] = field(default_factory=dict)

    def fold(self, deltas: Mapping[str, Tensor]) -> None:
        """One contribution enters; tensors that it does not mention are not touched."""
        self.norms.append(norm(deltas.values()))
        for name, delta in deltas.items():
            before = self.sums.get(name, torch.zeros_like(delta))
            if self.projected(name):
                eps = torch.finfo(torch.float64 if self.base[name].dtype is torch.float64 else torch.float32).eps
                noise = max(delta.shape) * eps
                kept, self.ranks[name] = project(before, delta, alpha=self.alpha, variant=self.variant, noise=noise)
            else:
                kept = delta
            self.sums[name] = before + kept

    def published(self) -> dict[str, Tensor]:
        """``base + sum * mean norm / norm of the sum``."""
        length = norm(self.sums.values())
        scale = sum(self.norms) / len(self.norms) / length if length else 0.0
        return {
            name: tensor.double() + scale * self.sums[name] if name in self.sums else tensor.clone()
            for name, tensor in self.base.items()
        }


def dense_deltas(
    base: Mapping[str, Tensor], tuned: Mapping[str, Tensor], skip: Iterable[str] = ()
) -> dict[str, Tensor]:
    """Task vector of a full checkpoint, float64, without integer tensors and second names of tied weights."""
    return {
        name: tuned[name].double() - tensor.double()
        for name, tensor in base.items()
        if tensor.is_floating_point() and name not in set(skip)
    }
