"""One OPCM fold of one matrix, word for word as the published routine does it: full bases, float32."""

from __future__ import annotations

import torch
from torch import Tensor


def literal_projection(merged: Tensor, delta: Tensor, alpha: float) -> tuple[Tensor, int]:
    """Projection of ``delta`` (m, n) and the protected rank: the m x m and n x n bases are formed."""
    left, values, right_t = torch.linalg.svd(merged, full_matrices=True)
    share = torch.cumsum(values, dim=0) / values.sum()
    rank = int((share > alpha).float().argmax())
    coefficients = left.mT @ delta @ right_t.mT
    coefficients[:rank, :rank] = 0
    return left @ coefficients @ right_t, rank
