"""The closed forms of WUDI: a merge that agrees with every task vector on the inputs that this task vector sees.

For one linear map, task vectors T_i (m, n), weights w_i = 1 / ||T_i||^2 and

    S = sum T_i,    G = sum w_i T_i^T T_i  (n, n),    D = sum w_i T_i T_i^T T_i  (m, n),

the loss sum w_i ||(M - T_i) T_i^T||^2 (Cheng et al. 2025, arXiv 2503.08099) is minimal at D G^-1. That overfits
the weak directions, so a filter f of the eigenvalues l of G = V diag(l) V^T says how far to go there from S:

    M = S + (D V diag(1 / l) - S V) diag(f) V^T.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import NamedTuple

import torch
from numpy.linalg import LinAlgError
from torch import Tensor

from mergenode.maths.gram import PANEL_ELEMENTS, REFLECTOR_BLOCK, dense_spectrum, panel_rows, symmetric_spectrum
from mergenode.maths.packed_symmetric import product
from mergenode.maths.subspaces import CERTIFICATE, PROBES, is_orthonormal

NOISE = 16
"""Eigenvalues below so many units of rounding of the largest are what rounding left in the statistics: no filter may
divide by them. Measured noise of a Gram matrix summed in fp32: about one unit."""


class Filter(NamedTuple):
    """What a rule says about the leading eigenvalues: ``removed`` f and ``solved`` f / l, both (count,), fp64."""

    removed: Tensor
    solved: Tensor


FilterRule = Callable[[Tensor, float], Filter]
"""From all eigenvalues (n,), fp64, descending, not negative, and the unit of rounding of the matrix that they are of,
to the filter of the leading ones."""


def participation(values: Tensor, unit: float) -> int:
    """K = ceil((sum sqrt l)^2 / sum l): how many directions take part, were they equally strong; 0 for zeros.

    ``unit``: relative rounding of the matrix that the eigenvalues come from; those in its noise are not counted.
    """
    real = values[values > NOISE * unit * values[0]] if len(values) else values
    if not len(real):
        return 0
    return min(len(real), ceil(float(real.sqrt().sum() ** 2 / real.sum()) * (1 - 1e-12)))


def leading_filter(values: Tensor, unit: float) -> Filter:
    """f = 1 on the leading K directions: the rule of ASWUDI."""
    count = participation(values, unit)
    return Filter(torch.ones(count, dtype=torch.float64), values[:count].reciprocal())


def smooth_filter(values: Tensor, unit: float, *, time: float, ratio: float) -> Filter:
    """f = 1 - exp(-l t) on the leading share ``ratio`` of directions: gradient flow stopped at ``time`` t (SWUDI).

    Eigenvalues below 1e-8 count as that; the filter never divides by less, so ``unit`` does not matter.
    """
    leading = values[: int(ratio * len(values))].clamp(min=1e-8)
    removed = -torch.expm1(-leading * time)
    return Filter(removed, removed / leading)


def filtered_solution(
    total: Tensor, cubic: Tensor, gram: Tensor, rule: FilterRule, *, onto: Tensor | None = None
) -> Tensor:
    """M of the module for ``total`` S and ``cubic`` D, (m, n), and ``gram`` G, (n, n), packed.

    Any strides, finite, not modified. The result is new, row-major, dtype of ``total``. What is divided by eigenvalues
    is computed in fp64, the rest in the result's dtype.
    ``onto`` (m, n): this tensor becomes its mean with M and is the result, for two solutions in the room of one.
    Peak memory beyond input and result: ``solution_bytes(n)``.

    Raises:
        LinAlgError: G has no decomposition.
    """
    vectors, found = _filtered_directions(gram, rule)
    narrow = vectors.to(total.dtype)
    result = torch.empty(total.shape, dtype=total.dtype, device=total.device) if onto is None else onto
    for start in range(0, total.shape[0], panel_rows(total.shape[1])):
        part = slice(start, start + panel_rows(total.shape[1]))
        change = (cubic[part].to(torch.float64) @ vectors).mul_(found.solved).to(total.dtype)
        change.sub_((total[part] @ narrow).mul_(found.removed.to(total.dtype)))
        solved = torch.addmm(total[part], change, narrow.mT)
        result[part] = solved if onto is None else solved.add_(result[part]).mul_(0.5)
    return result


def _filtered_directions(gram: Tensor, rule: FilterRule) -> tuple[Tensor, Filter]:
    """The leading eigenvectors of G that the rule asks for, (n, count) fp64, and what it says about them."""
    spectrum = symmetric_spectrum(gram)
    found = rule(spectrum.eigenvalues.cpu(), torch.finfo(gram.dtype).eps)
    values = spectrum.eigenvalues[: len(found.removed)]
    try:
        vectors = spectrum.leading_vectors(len(values))
        del spectrum  # n x n fp64, not needed below
        sound = _are_eigenvectors(gram, vectors, values)
    except LinAlgError:
        sound = False
    if not sound:
        vectors = dense_spectrum(gram).vectors[:, : len(values)]
    return vectors, Filter(found.removed.to(gram.device), found.solved.to(gram.device))


def _are_eigenvectors(gram: Tensor, vectors: Tensor, values: Tensor) -> bool:
    """Orthonormal, and G V x = V diag(l) x for a few deterministic probes x."""
    if not is_orthonormal(vectors) or not len(values):
        return is_orthonormal(vectors)
    draw = torch.Generator().manual_seed(len(values))
    probes = torch.randn((len(values), PROBES), dtype=torch.float64, generator=draw).to(vectors.device)
    turned, expected = vectors @ probes, vectors @ (values[:, None] * probes)
    error = product(turned.mT, gram).mT.sub_(expected)
    return bool((error.norm(dim=0) <= CERTIFICATE * values[0] * probes.norm(dim=0)).all())


def solution_bytes(n: int) -> int:
    """Upper bound of what ``filtered_solution`` has allocated at any time beyond its inputs and its result.

    Two n x n matrices in fp64, reflectors and eigenvectors; then eigenvectors, also narrow, and panels.
    """
    panels = 6 * 8 * max(64 * n, PANEL_ELEMENTS) + 3 * 8 * REFLECTOR_BLOCK * n + (4 << 20)
    return 2 * 8 * n * n + panels
