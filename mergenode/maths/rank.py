"""How many directions of a matrix count: answers from its singular values.

All functions take ``values``: shape (k,), fp64, descending, not negative.
"""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor


def check_alpha(alpha: float) -> None:
    """Raises ValueError unless ``0 <= alpha < 1``.

    At 1 the rule below asks for a share that rounding alone decides: the same matrix may end up with all
    directions protected or with none.
    """
    if not 0.0 <= alpha < 1.0:
        raise ValueError(f"alpha is {alpha}, it has to be at least 0 and below 1")


def leading_rank(values: Tensor, alpha: float) -> int:
    """0-based index of the first k with ``(s_0 + .. + s_k) / sum(s) > alpha``, strictly; 0 for the zero
    matrix.

    The rule of OPCM's published code (arXiv 2501.09522): one direction fewer than the smallest count whose
    share of the *sum of singular values* (not of their squares) exceeds alpha.

    Example:
        >>> leading_rank(torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64), 0.5)
        1
    """
    check_alpha(alpha)
    cumulative = torch.cumsum(values, dim=0)
    if not len(values) or cumulative[-1] == 0:
        return 0
    return int(torch.count_nonzero(cumulative / cumulative[-1] <= alpha))


def covering_rank(values: Tensor, alpha: float) -> int:
    """Smallest count of leading values whose sum is at least ``alpha * sum(s)``; 0 for alpha 0 and the zero
    matrix.

    The rule of OPCM's paper (arXiv 2501.09522, definition of P_alpha).

    Example:
        >>> covering_rank(torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64), 0.5)
        2
    """
    check_alpha(alpha)
    cumulative = torch.cumsum(values, dim=0)
    if not len(values) or cumulative[-1] == 0 or alpha == 0:
        return 0
    return int(torch.count_nonzero(cumulative / cumulative[-1] < alpha)) + 1


def effective_rank(values: Tensor) -> float:
    """exp of the Shannon entropy of ``s / sum(s)`` (Roy and Vetterli 2007), in [1, k]; 0 for the zero
    matrix."""
    total = values.sum()
    if total == 0:
        return 0.0
    share = values / total
    return float(torch.exp(torch.special.entr(share).sum()))


def numerical_rank(values: Tensor, shape: torch.Size, dtype: torch.dtype) -> int:
    """Number of values above ``max(shape) * eps(dtype) * s_0``: those that data of this dtype can support.

    Singular vectors below that line are rounding noise, so nothing may depend on how they are paired.
    """
    if not len(values):
        return 0
    line = max(shape) * torch.finfo(dtype).eps * values[0]
    return int(torch.count_nonzero(values > line))


def participating_rank(values: Tensor) -> int:
    """ceil((sum s)^2 / sum s^2): how many directions take part, were they equally strong; 0 for the zero matrix.

    The participation count of ``spectral_filter`` for singular values of one matrix. ``values``: without the noise.
    """
    square = float(values.square().sum())
    return min(len(values), ceil(float(values.sum()) ** 2 / square * (1 - 1e-12))) if square else 0
