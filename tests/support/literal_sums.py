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


def agree(vectors: Vectors, share: float) -> Tensor:
    """Truncated task vectors, their two-sided closed form, and from there one dense least squares over all elements."""
    k, n, lam = min(vectors[0].shape), len(vectors), 1e-3
    decomposed = [torch.linalg.svd(vector, full_matrices=False) for vector in vectors]
    rank = int(share * k) // n
    if rank == 0:
        decomposed = sorted(decomposed, key=lambda usv: -float(usv[1][0]))[: max(1, int(share * k))]
        rank = 1
    truncated = [u[:, :rank] @ torch.diag(s[:rank]) @ vh[:rank] for u, s, vh in decomposed]
    start = wudi(truncated, participation_filter(1e-12), "both")
    rows, wanted = [lam**0.5 * torch.eye(start.numel(), dtype=torch.float64)], [lam**0.5 * start.flatten()]
    for u, s, vh in decomposed:
        for a in range(min(rank, max(1, k // 4))):
            for b in range(min(rank, max(1, k // 4))):
                weight = float((s[a] / s[0] * s[b] / s[0]) ** 0.5)
                rows.append(weight * torch.outer(u[:, a], vh[b]).flatten()[None])
                wanted.append(weight * (s[a] if a == b else 0 * s[a])[None])
    return torch.linalg.lstsq(torch.cat(rows), torch.cat(wanted)[:, None], driver="gelsd").solution.view(start.shape)


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


def relative_ranks(values: Sequence[float]) -> list[float]:
    return [sum(other < value for other in values) / len(values) for value in values]


def widen(base: Tensor, vectors: Vectors, threshold: float = 1.0, calibration: float = 1.0) -> Tensor:
    """Column by column of a matrix: scores of all contributions side by side, then their weighted task vectors."""
    columns = range(base.shape[1])
    scores = []
    for kind in ("magnitude", "direction"):
        ranks = []
        for vector in vectors:
            changes = []
            for j in columns:
                before, after = base[:, j], base[:, j] + vector[:, j]
                cosine = float(before @ after / (before.norm() * after.norm()))
                changes.append(abs(float(after.norm() - before.norm())) if kind == "magnitude" else 1 - cosine)
            ranks.append(relative_ranks(changes))
        table = torch.tensor(ranks, dtype=torch.float64)
        shares = torch.softmax(table, dim=0)
        shares[table > threshold * table.mean(dim=1, keepdim=True)] = calibration
        scores.append(shares)
    weights = (scores[0] + scores[1]) / 2
    return sum((weights[i] * vector for i, vector in enumerate(vectors)), torch.zeros_like(base))


def widen_vector(vectors: Vectors) -> Tensor:
    """Element by element of a vector: there is only the size of the change."""
    table = torch.tensor([relative_ranks(vector.abs().tolist()) for vector in vectors], dtype=torch.float64)
    shares = torch.softmax(table, dim=0)
    shares[table > table.mean(dim=1, keepdim=True)] = 1.0
    return sum((shares[i] * vector for i, vector in enumerate(vectors)), torch.zeros_like(vectors[0]))


def fisher(vectors: Vectors, fishers: Vectors, weights: Sequence[float], floor: float) -> Tensor:
    above = sum((w * (f + floor) * t for w, f, t in zip(weights, fishers, vectors, strict=True)), vectors[0] * 0)
    return above / sum((w * (f + floor) for w, f in zip(weights, fishers, strict=True)), vectors[0] * 0)


def regmean(vectors: Vectors, grams: Vectors, weights: Sequence[float], off_diagonal: float, ridge: float) -> Tensor:
    """In the orientation of the paper: weights (d_in, d_out), W = (sum G)^-1 sum G W."""
    left = torch.zeros_like(grams[0])
    right = torch.zeros_like(vectors[0].T)
    for vector, gram, weight in zip(vectors, grams, weights, strict=True):
        even = gram / gram.diagonal().mean()
        damped = off_diagonal * even + (1 - off_diagonal) * torch.diag(even.diagonal())
        damped += ridge * torch.eye(len(gram), dtype=gram.dtype)
        left += weight * damped
        right += weight * damped @ vector.T
    return torch.linalg.solve(left, right).T


def magmax(vectors: Vectors) -> Tensor:
    columns = zip(*(vector.flatten().tolist() for vector in vectors), strict=True)
    merged = [max(entries, key=lambda value: (abs(value), value)) for entries in columns]
    return torch.tensor(merged, dtype=torch.float64).reshape(vectors[0].shape)
