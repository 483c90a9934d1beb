"""What several models say about the same inputs, as sums: enough to train one model that agrees with each of them.

A contribution i with outputs f_i(x) (width d) and a head H_i (classes x d), which only looks at differences between its
classes, is served by a model f as far as

    (f(x) - f_i(x))^T A_i (f(x) - f_i(x)),    A_i = H^T H / its largest eigenvalue,    H = H_i - its mean row

is small over inputs x: what f says along other directions no class of i depends on, so the others may have it. Summed
over contributions with weights w_i that is, but for what does not depend on f,

    f(x)^T A f(x) - 2 f(x)^T b(x),    A = sum_i w_i A_i,    b(x) = sum_i w_i A_i f_i(x).

A and b are sums: of constant size, the same in any order, and what one contribution added can be subtracted again. No
published name is known to us; distilling several teachers into one student on inputs that nobody labelled, random ones
among them, is older (Krishna et al. 2020, arXiv 1910.12366, on random inputs).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class ProbeSums(NamedTuple):
    """``metric``: A, (d, d). ``targets``: b, one row per input, (n, d). Both fp32."""

    metric: Tensor
    targets: Tensor


def head_metric(head: Tensor) -> Tensor:
    """A_i of a head (classes, d): symmetric, (d, d), fp32, largest eigenvalue 1. One row stands for itself.

    Raises:
        ValueError: the head is not such a matrix, not finite, or tells no class from another.
    """
    if head.ndim != 2 or not head.numel():
        raise ValueError(f"a head has shape (classes, width), not {list(head.shape)}")
    rows = head.detach().double()
    centred = rows - rows.mean(0) if len(rows) > 1 else rows
    gram = centred.T @ centred
    if not bool(gram.isfinite().all()):
        raise ValueError("the head is not finite")
    largest = float(torch.linalg.eigvalsh(gram)[-1])
    if not largest > 1e-12 * float(rows.square().sum()):
        raise ValueError("the rows of the head are all the same: it tells no class from another")
    return (gram / largest).float()


def sums_of(outputs: Tensor, head: Tensor, weight: float = 1.0) -> ProbeSums:
    """What one contribution adds: ``outputs`` (n, d), its ``head`` (classes, d).

    Raises:
        ValueError: as ``head_metric``, or the outputs do not fit the head or are not finite.
    """
    metric = head_metric(head)
    if outputs.ndim != 2 or outputs.shape[1] != len(metric):
        raise ValueError(f"outputs of shape {list(outputs.shape)} do not fit a head of width {len(metric)}")
    if not bool(outputs.isfinite().all()):
        raise ValueError("the outputs are not finite")
    return ProbeSums(weight * metric, weight * (outputs.detach().float() @ metric))


def added(left: ProbeSums, right: ProbeSums, sign: float = 1.0) -> ProbeSums:
    """``left + sign * right``, new tensors. Raises ValueError: they are of other inputs or widths."""
    if left.targets.shape != right.targets.shape:
        what = f"{list(left.targets.shape)} and {list(right.targets.shape)}"
        raise ValueError(f"sums over other inputs do not add up: {what} (inputs, width)")
    return ProbeSums(*(one.add(other, alpha=sign) for one, other in zip(left, right, strict=True)))


def disagreement(outputs: Tensor, metric: Tensor, targets: Tensor) -> Tensor:
    """Mean of f^T A f - 2 f^T b over rows of ``outputs`` (n, d) with ``targets`` (n, d): a scalar, differentiable."""
    return ((outputs @ metric - 2 * targets) * outputs).sum(1).mean()
