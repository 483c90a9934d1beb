"""A matrix that agrees with several others where both their inputs and their outputs lie.

Given T_i = U_i diag(s_i) V_i^T (m, n), few triplets each, strongest first, the answer M is the nearest to a start M_0
with U_i^T M V_i = diag(s_i) for all i at once, as far as these demands allow: it minimises

    lambda |M - M_0|^2 + sum_i sum_ab q_ia^2 q_ib^2 (U_i^T M V_i - diag(s_i))_ab^2,    q_ia^2 = s_ia / s_i0.

The demand is weaker than that of WUDI (Cheng et al. 2025, arXiv 2503.08099), agreement on all of the row space of T_i,
and can be met by many T_i at once. In the unknowns X_i of M = M_0 + sum U_i (Q_i * X_i) V_i^T, Q_i = q_i q_i^T, it is a
positive definite system, solved by conjugate gradients (Hestenes and Stiefel 1952).

M_0 is the two-sided closed form of ``spectral_filter`` for the same T_i, computed from their triplets.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mergenode.maths.spectral_filter import participation
from mergenode.maths.subspaces import leading_subspaces

DAMPING = 1e-3
"""lambda: what leaving the start costs, beside a demand on two strongest directions."""

STEPS = 500
"""Most steps of conjugate gradients; real matrices take 50 to 200 to ``SOLVED``."""

SOLVED = 1e-8
"""Residual over right-hand side at which the system counts as solved. Stopped much earlier, conjugate gradients blow up
the rounding of their inputs: the order of arrival would show."""

MOST_SHARE = 4
"""Demands are made on the strongest min(m, n) / 4 directions of each matrix at most: more of them contradict each other
and were measured to be worse."""


def agreement(left: Tensor, values: Tensor, right: Tensor, starts: Sequence[int]) -> Tensor:
    """M (m, n), a new tensor of the dtype of ``left``, for triplets in columns of ``left`` (m, r) and ``right`` (n, r).

    ``values`` (r,), positive. ``starts``: where the triplets of each matrix begin, ascending from 0; those of one are
    orthonormal and strongest first. Nothing is modified; computed in fp64. The order of the matrices changes the
    result by rounding only. Peak memory beyond inputs and result: ``agreement_bytes``.

    Raises:
        LinAlgError: a decomposition did not converge.
    """
    wide_left, wide_right = left.to(torch.float64), right.to(torch.float64)
    strengths = values.to(torch.float64)
    bounds = list(zip(starts, [*starts[1:], len(values)], strict=True))
    merged = _start(wide_left, strengths, wide_right, bounds)
    most = max(1, min(merged.shape) // MOST_SHARE)
    blocks = [slice(first, min(last, first + most)) for first, last in bounds]
    _correct(merged, wide_left, strengths, wide_right, blocks)
    return merged.to(left.dtype)


def _start(left: Tensor, values: Tensor, right: Tensor, bounds: Sequence[tuple[int, int]]) -> Tensor:
    """M_0 = (M_right + M_left) / 2, see ``spectral_filter``, with f = 1 on the directions that take part."""
    norms = torch.empty_like(values)
    for first, last in bounds:
        norms[first:last] = values[first:last].norm()
    merged = (left * values) @ right.mT
    cubes = values.pow(3) / norms.square()
    on_inputs = _one_side(left, values, right, norms, cubes)
    on_outputs = _one_side(right, values, left, norms, cubes)
    return merged.add_(on_inputs, alpha=0.5).add_(on_outputs.mT, alpha=0.5)


def _one_side(other: Tensor, values: Tensor, side: Tensor, norms: Tensor, cubes: Tensor) -> Tensor:
    """(D W / l - S W) W^T for the leading eigenvectors W of G = Y Y^T, Y = V diag(s / |T|): (rows of other, of side).

    G and D = U diag(s^3 / |T|^2) V^T are never there: a product with W runs over the triplets.
    """
    weighted = side * (values / norms)
    tall = weighted if weighted.shape[0] >= weighted.shape[1] else weighted.mT
    unit = float(torch.finfo(torch.float32).eps) ** 2  # of eigenvalues: the triplets come from fp32
    found = leading_subspaces(tall, lambda singular: participation(singular.square(), unit))
    directions = found.left if tall is weighted else found.right
    eigenvalues = found.values[: directions.shape[1]].square().to(side.device)
    seen = side.mT @ directions
    change = other @ ((cubes[:, None] * seen) / eigenvalues - values[:, None] * seen)
    return change @ directions.mT


def _correct(merged: Tensor, left: Tensor, values: Tensor, right: Tensor, blocks: Sequence[slice]) -> None:
    """Add what the demands ask for to ``merged``, in place. Blocks become equally long: what is missing is zero."""
    count, longest = len(blocks), max(block.stop - block.start for block in blocks)
    lefts, rights = (side.new_zeros((side.shape[0], count * longest)) for side in (left, right))
    wanted = merged.new_zeros((count, longest, longest))
    weights = torch.zeros_like(wanted)
    for number, block in enumerate(blocks):
        length, own = block.stop - block.start, slice(number * longest, number * longest + block.stop - block.start)
        lefts[:, own], rights[:, own] = left[:, block], right[:, block]
        root = (values[block] / values[block.start]).sqrt()
        weights[number, :length, :length] = root[:, None] * root
        seen = left[:, block].mT @ merged @ right[:, block]
        wanted[number, :length, :length] = torch.diag(values[block]) - seen
    found = _conjugate_gradients(lefts.mT @ lefts, rights.mT @ rights, weights, wanted.mul_(weights)).mul_(weights)
    for number in range(count):
        own = slice(number * longest, (number + 1) * longest)
        lefts[:, own] = lefts[:, own] @ found[number]
    merged.addmm_(lefts, rights.mT)


def _conjugate_gradients(outputs: Tensor, inputs: Tensor, weights: Tensor, wanted: Tensor) -> Tensor:
    """X (count, r, r) with Q_i * sum_j A_ij (Q_j * X_j) B_ji + lambda X_i = ``wanted`` i.

    ``outputs`` A and ``inputs`` B: (count r, count r), Gram matrices of orthonormal blocks, so the diagonal of the
    system is Q^2 + lambda: the preconditioner. ``wanted`` becomes the residual.
    """
    diagonal = weights.square().add_(DAMPING)
    solution, residual = torch.zeros_like(wanted), wanted
    enough = SOLVED * float(wanted.norm())
    direction = residual / diagonal
    product = float(torch.sum(residual * direction))
    for _ in range(STEPS):
        if float(residual.norm()) <= enough:
            break
        image = _image(outputs, inputs, weights, direction)
        step = product / float(torch.sum(direction * image))
        solution.add_(direction, alpha=step)
        residual.sub_(image, alpha=step)
        scaled = residual / diagonal
        before, product = product, float(torch.sum(residual * scaled))
        direction.mul_(product / before).add_(scaled)
    return solution


def _image(outputs: Tensor, inputs: Tensor, weights: Tensor, parts: Tensor) -> Tensor:
    count, length = parts.shape[:2]
    image = torch.zeros_like(parts)
    for number in range(count):
        here = slice(number * length, (number + 1) * length)
        turned = (outputs[:, here] @ (weights[number] * parts[number])).view(count, length, length)
        image.baddbmm_(turned, inputs[here].view(length, count, length).transpose(0, 1))
    return image.mul_(weights).add_(parts, alpha=DAMPING)


def agreement_bytes(m: int, n: int, rank: int) -> int:
    """Upper bound of what ``agreement`` has allocated at any time beyond inputs and result, for ``rank`` triplets.

    All in fp64: the vectors, the start and a change of it; then either the vectors of one side weighted, their
    decomposition and its factors, or both Gram matrices, the core and seven sets of blocks.
    """
    short = min(m, n)
    vectors, matrix = rank * (m + n), m * n
    widest = max(m, n)
    decomposing = 3 * rank * widest + 3 * min(rank, widest) ** 2 + 2 * rank * rank
    solving = vectors + 3 * rank * rank + 9 * rank * max(1, short // MOST_SHARE)
    return 8 * (vectors + 3 * matrix + max(decomposing, solving)) + (8 << 20)
