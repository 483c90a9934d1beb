"""RegMean: the weights whose outputs are nearest to those of all contributions, on what their inputs look like.

Jin et al. 2023, arXiv 2212.09849, equation 2: ``W = (sum G_i)^-1 sum G_i W_i`` with G_i = X_i^T X_i of the inputs X_i
that a linear layer saw (W there d_in x d_out). Here weights lie (d_out, d_in) and task vectors stand for weights, so

    M = (sum w_i T_i G_i) (sum w_i G_i)^-1

and both sums stream. G_i comes with the contribution, in a side-car.

Deviations from the published code:

- Every G_i is divided by its mean diagonal element: whether a side-car holds sums or means, of few rows or many, and
  how loud its activations are, then weighs nothing. What a contribution should weigh is its weight.
- ``ridge`` is added to the diagonal. A contribution without Gram for a matrix has the identity in its place, so a
  matrix that nobody has a Gram for is averaged over those that mention it.
- Matrices wider than ``width_limit`` and tensors that are no linear maps are averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite

import torch
from torch import Tensor

from mergenode.errors import FatalError, UsageError
from mergenode.maths.norms import CHUNK, inner, squared_norm
from mergenode.methods.accumulator import (
    SCRATCH_BYTES,
    advance_counts,
    combine_sums,
    fold_sum,
    pool_counts,
    retract_sum,
    withdraw_counts,
)
from mergenode.methods.contract import Folded, Incoming, Method, Statistics
from mergenode.methods.layouts import Layout, Stored, accumulator_layouts
from mergenode.methods.linear_maps import DEFAULT_EXCLUDE, checked_patterns, is_linear_map
from mergenode.methods.mean import export_mean
from mergenode.methods.scaling import OWN, Scaling, checked_scaling
from mergenode.types import DType, TensorSpec

_NOBODY = 1e-5
"""Share of the Gram's trace that is left by rounding when the last contribution was taken back."""
_ROWS = 512
"""Rows of a matrix that are solved for at a time."""


def regmean(
    *,
    off_diagonal: float = 0.9,
    ridge: float = 1e-3,
    width_limit: int = 4096,
    scale: float | str = OWN,
    profile: Mapping[str, float] | None = None,
    exclude: Sequence[str] = DEFAULT_EXCLUDE,
    include: Sequence[str] = (),
) -> Method:
    """The method with off-diagonal elements of every Gram multiplied by ``off_diagonal`` (the paper's alpha: 0.9).

    It keeps the solution from trusting correlations of a small sample; at most 0.999, which bounds the condition of the
    system: rounding in a Gram that was taken over many inputs must not make the sum of all unsolvable.
    Statistics of a linear map: ``gram`` = sum w G, and ``product`` = sum w T G or, of a single contribution, ``first``,
    its own weights, which come back bit for bit. Commutative, combinable, retractable up to fp32 rounding of the sums,
    times the condition of the Gram where they are solved with. ``scale`` (own: 1) and ``profile``: see ``scaling``.

    Raises:
        UsageError: an option has a value that it does not take.
    """
    _check_number("off_diagonal", off_diagonal, 0.0, 0.999)
    _check_number("ridge", ridge, 1e-9, inf)
    if isinstance(width_limit, bool) or not isinstance(width_limit, int) or width_limit < 0:
        raise UsageError(f"regmean: option 'width_limit' is {width_limit!r}", hint="Give a whole number of at least 0.")
    scaling = checked_scaling("regmean", scale, 1.0, profile)
    taken, spared = checked_patterns("regmean", "include", include), checked_patterns("regmean", "exclude", exclude)
    chosen = _RegMean(float(off_diagonal), float(ridge), width_limit, scaling, taken, spared)
    return Method(
        name="regmean",
        reference="Jin et al. 2023, Dataless knowledge fusion by merging weights, arXiv 2212.09849, eq. 2",
        options=chosen.options,
        fold=chosen.fold,
        advance=advance_counts,
        export=chosen.export,
        elementwise=lambda spec: not chosen.is_solved(spec),
        working_bytes=chosen.working_bytes,
        needs_totals=False,
        ignores_untouched=True,
        uses_totals=lambda spec: not chosen.is_solved(spec),
        exact=True,
        commutative=True,
        state_factor=lambda spec: 1.0 + spec.shape[1] ** 2 / spec.numel if chosen.is_solved(spec) else 1.0,
        needs=frozenset({"gram"}),
        sides=lambda spec: frozenset({"gram"}) if chosen.is_solved(spec) else frozenset(),
        exports_whole=chosen.is_solved,
        combine=chosen.combine,
        retract=chosen.retract,
        withdraw=withdraw_counts,
        pool=pool_counts,
        layouts=chosen.layouts,
    )


@dataclass(frozen=True, slots=True)
class _RegMean:
    """The validated options, and what follows from them."""

    off_diagonal: float
    ridge: float
    width_limit: int
    scaling: Scaling
    include: tuple[str, ...]
    exclude: tuple[str, ...]

    @property
    def options(self) -> Mapping[str, object]:
        own = {"off_diagonal": self.off_diagonal, "ridge": self.ridge, "width_limit": self.width_limit}
        return {**own, **self.scaling.options, "exclude": list(self.exclude), "include": list(self.include)}

    def is_solved(self, spec: TensorSpec) -> bool:
        return is_linear_map(spec, self.include, self.exclude) and spec.shape[1] <= self.width_limit

    def layouts(self, spec: TensorSpec) -> tuple[Layout, ...]:
        if not self.is_solved(spec):
            return accumulator_layouts(spec)
        gram = {"gram": Stored((spec.shape[1], spec.shape[1]))}
        return ({**gram, "first": Stored(spec.shape)}, {**gram, "product": Stored(spec.shape)})

    def fold(self, spec: TensorSpec, statistics: Statistics, base: Tensor, incoming: Incoming) -> Folded:
        if not self.is_solved(spec):
            return fold_sum(statistics, base, incoming)
        return _add(statistics, base, incoming, self._prepared(incoming), 1)

    def retract(self, spec: TensorSpec, statistics: Statistics, base: Tensor, incoming: Incoming) -> Folded:
        if not self.is_solved(spec):
            return retract_sum(statistics, base, incoming)
        return _add(statistics, base, incoming, self._prepared(incoming), -1)

    def _prepared(self, incoming: Incoming) -> Tensor:
        return regularised(incoming.side.get("gram"), incoming.delta, self.off_diagonal, self.ridge)

    def combine(self, spec: TensorSpec, left: Statistics, right: Statistics, base: Tensor) -> Statistics:
        if not left or not right:
            return left or right
        if not self.is_solved(spec):
            return combine_sums(left, right, base)
        return {"gram": left["gram"] + right["gram"], "product": _product(left, base) + _product(right, base)}

    def export(self, spec: TensorSpec, statistics: Statistics, base: Tensor, totals: Mapping[str, float]) -> Tensor:
        factor = self.scaling.of(spec)
        if not statistics or not self.is_solved(spec):
            return export_mean("regmean", statistics, base, totals, factor)
        if "first" in statistics:
            own = statistics["first"]
            return own if factor == 1.0 else self.scaling.publish(spec, base, own - base)
        return self.scaling.publish(spec, base, _solution(spec, statistics))

    def working_bytes(self, spec: TensorSpec) -> int:
        """The Gram as it enters and a product; at export the Gram and its factor in fp64, and a block of rows."""
        if not self.is_solved(spec):
            return SCRATCH_BYTES
        m, n = spec.shape
        itemsize = 8 if spec.dtype is DType.F64 else 4
        folding = itemsize * (n * n + 2 * m * n)
        solving = 8 * (n * n + 2 * min(m, _ROWS) * n) + itemsize * m * n
        return max(folding, solving) + SCRATCH_BYTES + 8 * CHUNK


def regularised(gram: Tensor | None, delta: Tensor, off_diagonal: float, ridge: float) -> Tensor:
    """What stands for G (d_in, d_in), a new tensor: mean diagonal 1, off-diagonals damped, a ridge.

    (1 + ridge) I when there is no Gram, or the layer saw nothing but zeros.
    """
    typical = float(gram.diagonal().double().mean()) if gram is not None else 0.0
    if gram is None or not typical > 0:
        return torch.eye(delta.shape[1], dtype=delta.dtype, device=delta.device).mul_(1.0 + ridge)
    damped = gram * (off_diagonal / typical)
    damped.diagonal().copy_(gram.diagonal() / typical + ridge)
    return damped


def _check_number(option: str, value: object, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most or value == inf:
        raise UsageError(f"regmean: option {option!r} is {value!r}", hint=f"Give a number from {least:g} to {most:g}.")


def _product(statistics: Statistics, base: Tensor) -> Tensor:
    """sum w T G; may be a statistic itself."""
    if "first" in statistics:
        return (statistics["first"] - base) @ statistics["gram"]
    return statistics["product"]


def _add(statistics: Statistics, base: Tensor, incoming: Incoming, gram: Tensor, sign: int) -> Folded:
    """Add (sign 1) or take away (sign -1) a contribution. ``gram`` is consumed; tensors of the result are new.

    The running merge that the sums speak of is sum w T G over the mean diagonal of sum w G: the solution, if all inputs
    were as loud and independent. The solution itself takes a decomposition.
    """
    delta = incoming.delta
    delta_sq = squared_norm(delta)
    sums = {"delta_sq": delta_sq, "kept_sq": delta_sq, "merge_sq": delta_sq, "dot": 0.0}
    if not isfinite(delta_sq):
        return Folded(statistics, sums)
    if not statistics and incoming.tuned is not None:
        first = torch.empty_like(delta).copy_(incoming.tuned)
        return Folded({"gram": gram, "first": first}, {**sums, "merge_sq": _size(delta @ gram, gram)})
    product = delta @ gram
    if statistics:
        before = _product(statistics, base)
        sums["dot"] = inner(delta, before) / _mean_diagonal(statistics["gram"])
        product = torch.add(before, product, alpha=sign, out=product)
        gram = torch.add(statistics["gram"], gram.mul_(incoming.weight), alpha=sign, out=gram)
        if sign < 0 and _mean_diagonal(gram) <= _NOBODY * _mean_diagonal(statistics["gram"]):
            return Folded({}, {**sums, "merge_sq": 0.0})
    else:
        gram.mul_(incoming.weight)
    return Folded({"gram": gram, "product": product}, {**sums, "merge_sq": _size(product, gram)})


def _mean_diagonal(gram: Tensor) -> float:
    return float(gram.diagonal().double().mean())


def _size(product: Tensor, gram: Tensor) -> float:
    return squared_norm(product) / _mean_diagonal(gram) ** 2


def _solution(spec: TensorSpec, statistics: Statistics) -> Tensor:
    """M = product gram^-1 (d_out, d_in), a new tensor, solved in fp64 by Cholesky in blocks of rows."""
    gram, product = statistics["gram"], statistics["product"]
    factor, info = gram.double().mT, torch.empty((), dtype=torch.int32)  # in the order in which LAPACK works in place
    if int(torch.linalg.cholesky_ex(factor, out=(factor, info)).info):
        raise FatalError(
            f"the Gram matrix of {spec.name!r} {list(spec.shape)} is not positive definite",
            hint="Run `mergenode verify`; when it finds no damage, raise `ridge` or add this tensor to `exclude`.",
        )
    merged = torch.empty_like(product)
    for start in range(0, len(product), _ROWS):
        rows = slice(start, start + _ROWS)
        half = torch.linalg.solve_triangular(factor.mT, product[rows].double(), upper=True, left=False)
        merged[rows] = torch.linalg.solve_triangular(factor, half, upper=False, left=False)
    return merged
