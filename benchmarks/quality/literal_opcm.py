"""OPCM as its authors' released code does it, in memory and with full decompositions: what the streamed one must match.

Tang et al. 2025, arXiv 2501.09522, algorithm 1, with the projection of the released code: the coefficients of the new
task vector in the singular bases of the running merge, without the leading block.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import sqrt

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]


def project_block(merged: Tensor, delta: Tensor, alpha: float) -> Tensor:
    """The part of ``delta`` (m, n) outside the block of leading singular pairs of ``merged`` (m, n)."""
    u, s, vt = torch.linalg.svd(merged, full_matrices=True)
    share = torch.cumsum(s, 0) / s.sum()
    rank = int((share > alpha).to(torch.int).argmax())
    coefficients = u.T @ delta @ vt.T
    coefficients[:rank, :rank] = 0
    kept: Tensor = u @ coefficients @ vt
    return kept


def opcm_block(
    base: Weights, experts: Iterable[Weights], linear: Sequence[str], alpha: float = 0.5
) -> dict[str, Tensor]:
    """Fold ``experts`` in their order into one model. ``linear``: names of the weights that are projected.

    Each fold undoes the scale of the fold before, adds what is left of the task vector, and scales the whole model to
    the running mean of the task vectors' norms.
    """
    merged = {name: torch.zeros_like(weight) for name, weight in base.items()}
    scale, norms = 1.0, list[float]()
    for expert in experts:
        delta = {name: expert[name] - base[name] for name in base}
        norms.append(_norm(delta))
        for name in base:
            new = delta[name]
            if norms[1:] and name in linear and bool(merged[name].any()):
                new = project_block(merged[name], new, alpha)
            merged[name] = scale * merged[name] + new
        scale = _norm(merged) / (sum(norms) / len(norms))
        merged = {name: tensor / scale for name, tensor in merged.items()}
    return {name: base[name] + merged[name] for name in base}


def _norm(tensors: Weights) -> float:
    return sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors.values()))
