"""How much of a change goes against the signs of another one."""

from __future__ import annotations

import torch
from torch import Tensor

from mergenode.maths.norms import chunks, exact_total

STRIDE = 127
"""Of so many entries one is looked at by ``sampled``. Prime: no width of a matrix is a multiple of it."""


def sampled(flat: Tensor, start: int) -> Tensor:
    """Every ``STRIDE``-th entry of a flattened tensor, a view, where ``flat`` begins at entry ``start``.

    The entries are the same however the tensor is cut into slices.
    """
    return flat[-start % STRIDE :: STRIDE]


def opposing_mass(delta: Tensor, merge: Tensor) -> tuple[float, float]:
    """Sum of |delta| where delta and merge have opposite signs, and where merge is not zero, fp64.

    The first over the second is the share of ``delta`` that opposes ``merge``; both are 0 when ``merge`` is. NaN in
    ``delta`` makes the second one NaN.

    Args:
        delta, merge: equal shapes, float, not modified.
    """
    against: list[float] = []
    compared: list[float] = []
    flat, other = delta.reshape(-1), merge.reshape(-1)
    for part in chunks(flat.numel()):
        d, m = flat[part], other[part]
        mass = d.abs().double().masked_fill_(m == 0, 0.0)
        compared.append(float(mass.sum()))
        against.append(float(mass.masked_fill_(torch.signbit(d) == torch.signbit(m), 0.0).sum()))
    return exact_total(against), exact_total(compared)
