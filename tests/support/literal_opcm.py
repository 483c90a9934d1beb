"""OPCM word for word, slow and obvious: full singular value decompositions in float64, no shared code."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def literal_rank(values: Matrix, alpha: float, variant: str) -> int:
    """r of the released code, or r' of the paper."""
    cumulative = np.cumsum(values)
    if cumulative[-1] == 0:
        return 0
    if variant == "paper":
        return next(count for count in range(len(values) + 1) if values[:count].sum() >= alpha * values.sum() - 1e-15)
    return int(np.argmax(cumulative / cumulative[-1] > alpha))


def literal_projection(
    merged: Matrix, delta: Matrix, alpha: float, variant: str, *, unpaired_below: float = 0.0
) -> tuple[Matrix, int]:
    """Projection of ``delta`` and the rank; pairs with a value at most ``unpaired_below * s_0`` have no diagonal."""
    if not merged.any():
        return delta.copy(), 0
    left, values, right_t = np.linalg.svd(merged.astype(np.float64), full_matrices=True)
    rank = literal_rank(values, alpha, variant)
    coefficients = left.T @ delta.astype(np.float64) @ right_t.T
    if variant == "paper":
        coefficients[:rank, :] = 0
        coefficients[:, :rank] = 0
    else:
        coefficients[:rank, :rank] = 0
    if variant in ("paper", "diagonal"):
        for index, value in enumerate(values):
            if value > unpaired_below * values[0]:
                coefficients[index, index] = 0
    kept = left @ coefficients @ right_t
    if variant == "block_orthogonal":
        kept = kept - (kept * merged).sum() / (merged * merged).sum() * merged
    return kept, rank


def literal_merge(deltas: list[Matrix], alpha: float, variant: str) -> Matrix:
    """Merged delta after all folds by the published recursion, with lambda, for a model of one matrix."""
    merged, scaling, norms = deltas[0].astype(np.float64), 1.0, [float(np.linalg.norm(deltas[0]))]
    for delta in deltas[1:]:
        norms.append(float(np.linalg.norm(delta)))
        total = scaling * merged + literal_projection(merged, delta, alpha, variant)[0]
        scaling = float(np.linalg.norm(total)) / float(np.mean(norms))
        merged = total / scaling
    return merged
