"""The sum family as its definitions read: all task vectors at once, float64, full decompositions. Slow and obvious.

Task vectors of one weight come as a list of float64 matrices; the answer is the merged task vector before any scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, exp

import torch
from torch import Tensor

Vectors = Sequence[Tensor]


def iso(vectors: Vectors, noise: float) -> Tensor:
    """Directions weaker than ``noise`` times the strongest are rounding errors, no directions of the sum."""
    u, s, vh = torch.linalg.svd(sum(vectors[1:], vectors[0]), full_matrices=False)
    real = s > noise * s[0]
    return s[real].mean() * u[:, real] @ vh[real]


def orthonormal(columns: Tensor) -> Tensor:
    u, _, vh = torch.linalg.svd(columns, full_matrices=False)
    return u @ vh


def tsvm(vectors: Vectors, share: float = 1.0) -> Tensor:
    k, n = min(vectors[0].shape), len(vectors)
    rank = int(share * k) // n
    decomposed = [torch.linalg.svd(vector, full_matrices=False) for vector in vectors]
    if rank == 0:
        decomposed = sorted(decomposed, key=lambda usv: -float(usv[1][0]))[: max(1, int(share * k))]
        rank = 1
    left = torch.cat([u[:, :rank] for u, _, _ in decomposed], dim=1)
    values = torch.cat([s[:rank] for _, s, _ in decomposed])
    right = torch.cat([vh[:rank].T for _, _, vh in decomposed], dim=1)
    return orthonormal(left) @ torch.diag(values) @ orthonormal(right).T


def wudi_side(vectors: Vectors, filters: object) -> Tensor:
    """The filtered closed form on the input side, eigenvector by eigenvector."""
    total = sum(vectors[1:], vectors[0])
    weights = [1.0 / float((vector * vector).sum()) for vector in vectors]
    gram = sum((w * t.T @ t for w, t in zip(weights, vectors, strict=True)), torch.zeros(1, dtype=torch.float64))
    cubic = sum((w * t @ t.T @ t for w, t in zip(weights, vectors, strict=True)), torch.zeros(1, dtype=torch.float64))
    values, directions = torch.linalg.eigh(gram)
    values, directions = values.flip(0), directions.flip(1)
    merged = total.clone()
    for (removed, solved), v in zip(filters(values.tolist()), directions.T, strict=False):
        merged -= removed * torch.outer(total @ v, v)
        merged += solved * torch.outer(cubic @ v, v)
    return merged


def participation_filter(noise: float) -> object:
    def filters(values: list[float]) -> list[tuple[float, float]]:
        real = [value for value in values if value > noise * values[0]]
        count = ceil(sum(value**0.5 for value in real) ** 2 / sum(real))
        return [(1.0, 1.0 / value) for value in real[:count]]

    return filters


def flow_filter(time: float, ratio: float) -> object:
    def filters(values: list[float]) -> list[tuple[float, float]]:
        leading = [max(value, 1e-8) for value in values[: int(ratio * len(values))]]
        return [(1 - exp(-value * time), (1 - exp(-value * time)) / value) for value in leading]

    return filters


def wudi(vectors: Vectors, filters: object, sides: str) -> Tensor:
    right = wudi_side(vectors, filters)
    return right if sides == "input" else (right + wudi_side([v.T for v in vectors], filters).T) / 2


def ties(vectors: Vectors, density: float) -> Tensor:
    """Element by element: trim each vector, elect the sign of the sum, average what agrees."""
    count = max(1, round(density * vectors[0].numel()))
    trimmed = []
    for vector in vectors:
        smallest = sorted(vector.abs().flatten().tolist(), reverse=True)[count - 1] if vector.numel() else 0.0
        trimmed.append([value if abs(value) >= smallest else 0.0 for value in vector.flatten().tolist()])
    merged = []
    for entries in zip(*trimmed, strict=True):
        sign = 1 if sum(entries) >= 0 else -1
        agreeing = [value for value in entries if value * sign > 0]
        merged.append(sum(agreeing) / len(agreeing) if agreeing else 0.0)
    return torch.tensor(merged, dtype=torch.float64).reshape(vectors[0].shape)


def magmax(vectors: Vectors) -> Tensor:
    columns = zip(*(vector.flatten().tolist() for vector in vectors), strict=True)
    merged = [max(entries, key=lambda value: (abs(value), value)) for entries in columns]
    return torch.tensor(merged, dtype=torch.float64).reshape(vectors[0].shape)
