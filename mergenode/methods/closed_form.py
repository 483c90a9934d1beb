"""The two methods that solve WUDI's objective in closed form: what they keep of a linear map, and how they end.

Statistics of one weight, task vectors T_i (d_out, d_in), w_i = 1 / ||T_i||^2 (see ``maths.spectral_filter``):

- the running sum S of ``accumulator``
- ``input_gram``   sum w_i T_i^T T_i, packed (d_in, d_in): the directions of the layer's inputs that were tuned for
- ``output_gram``  sum w_i T_i T_i^T, packed (d_out, d_out): the same of its outputs
- ``cubic``        sum w_i T_i T_i^T T_i, (d_out, d_in)

All are sums over contributions. A side wider than ``width_limit``, or more than four times as wide as the other, has
no Gram matrix: it would be larger than the weight and slow to decompose. A weight that is too wide on all wanted sides
is merged by its running sum alone, as Iso-C does.
The trace of a Gram matrix is the number of contributions in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, prod, sqrt

import torch
from numpy.linalg import LinAlgError
from torch import Tensor

from mergenode.errors import FatalError, UsageError
from mergenode.maths.norms import squared_norm
from mergenode.maths.packed_symmetric import diagonal, packed_gram, packed_shape, product
from mergenode.maths.polar import polar_bytes
from mergenode.maths.spectral_filter import FilterRule, filtered_solution, solution_bytes
from mergenode.methods.accumulator import SCRATCH_BYTES, combine_sums, fold_sum, retract_sum, running_sum
from mergenode.methods.contract import Folded, Incoming, Statistics
from mergenode.methods.isotropic import flatten_spectrum
from mergenode.methods.layouts import Layout, Stored, accumulator_layouts
from mergenode.methods.linear_maps import checked_patterns, is_linear_map
from mergenode.methods.mean import export_mean
from mergenode.methods.scaling import Scaling
from mergenode.types import DType, TensorSpec

SIDES = ("both", "input")
MOST_TIMES_LONGER = 4
"""A side longer than so many times the other, the vocabulary of a head, has no Gram matrix: it would be several times
larger than the weight. The matrices of a transformer block are within this."""
ACCUMULATOR = ("first", "sum")

_PRODUCT_BYTES = 8 << 20
"""What BLAS sets aside for itself during a product."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedForm:
    """Fold, export, combine and retract of a method whose filter of eigenvalues is ``rule``."""

    method: str
    rule: FilterRule
    sides: str
    width_limit: int
    scaling: Scaling
    include: tuple[str, ...]
    exclude: tuple[str, ...]

    @property
    def options(self) -> Mapping[str, object]:
        patterns = {"exclude": list(self.exclude), "include": list(self.include)}
        return {"sides": self.sides, "width_limit": self.width_limit, **self.scaling.options, **patterns}

    def is_solved(self, spec: TensorSpec) -> bool:
        return is_linear_map(spec, self.include, self.exclude)

    def grams(self, spec: TensorSpec) -> tuple[str, ...]:
        """The Gram matrices that are kept for this tensor; none: it is merged by its sum."""
        if not self.is_solved(spec):
            return ()
        widths = {"input_gram": spec.shape[1], "output_gram": spec.shape[0]}
        wanted = widths if self.sides == "both" else ("input_gram",)
        most = min(self.width_limit, MOST_TIMES_LONGER * min(spec.shape))
        return tuple(name for name in wanted if widths[name] <= most)

    def layouts(self, spec: TensorSpec) -> tuple[Layout, ...]:
        kept = self.grams(spec)
        grams = {name: Stored(packed_shape(_width(spec, name))) for name in kept}
        moments = {**grams, "cubic": Stored(spec.shape)} if kept else {}
        plain = accumulator_layouts(spec)
        return (*plain, *({**layout, **moments} for layout in plain)) if kept else plain

    def fold(self, spec: TensorSpec, statistics: Statistics, base: Tensor, incoming: Incoming) -> Folded:
        moments = self._moments(spec, statistics, incoming.delta, 1)
        # The norm of a task vector is part of the statistics here: exact, whoever looks.
        looked_at = incoming._replace(observe=incoming.observe or bool(self.grams(spec)))
        return self._with_moments(spec, fold_sum(_accumulator(statistics), base, looked_at), moments)

    def retract(self, spec: TensorSpec, statistics: Statistics, base: Tensor, incoming: Incoming) -> Folded:
        moments = self._moments(spec, statistics, incoming.delta, -1)
        return self._with_moments(spec, retract_sum(_accumulator(statistics), base, incoming), moments)

    def combine(self, spec: TensorSpec, left: Statistics, right: Statistics, base: Tensor) -> Statistics:
        if not left or not right:
            return left or right
        names = ({*left} | {*right}) - {*ACCUMULATOR}
        sums = combine_sums(_accumulator(left), _accumulator(right), base)
        pairs = {name: [side[name] for side in (left, right) if name in side] for name in sorted(names)}
        return {**sums, **{name: found[0] + found[1] if len(found) > 1 else found[0] for name, found in pairs.items()}}

    def export(self, spec: TensorSpec, statistics: Statistics, base: Tensor, totals: Mapping[str, float]) -> Tensor:
        if not statistics or not self.is_solved(spec):
            return export_mean(self.method, statistics, base, totals, self.scaling.of(spec))
        total, grams = running_sum(_accumulator(statistics), base), self.grams(spec)
        if not grams:
            return self.scaling.publish(spec, base, flatten_spectrum(spec, total))
        if "first" in statistics:  # the solution for one contribution is its own task vector
            alone = self.scaling.of(spec) == 1.0
            return statistics["first"] if alone else self.scaling.publish(spec, base, total)
        if "cubic" not in statistics:
            return self.scaling.publish(spec, base, total.clone())  # nothing but zeros, or what rounding left of them
        return self.scaling.publish(spec, base, self._solution(spec, statistics, total, grams))

    def state_factor(self, spec: TensorSpec) -> float:
        kept = self.grams(spec)
        extra = spec.numel + sum(prod(packed_shape(_width(spec, name))) for name in kept) if kept else 0
        return 1.0 + extra / spec.numel if spec.numel else 1.0

    def working_bytes(self, spec: TensorSpec) -> int:
        """A quarter of a Gram matrix and the unit task vector, when two statistics are not there yet; in products."""
        kept = self.grams(spec)
        itemsize = 8 if spec.dtype is DType.F64 else 4
        widest = max((_width(spec, name) for name in kept), default=0)
        return itemsize * max(0, widest * widest // 4 - spec.numel) + SCRATCH_BYTES + (_PRODUCT_BYTES if kept else 0)

    def export_bytes(self, spec: TensorSpec) -> int:
        """A decomposition: of a Gram matrix, or of the running sum, itself made where only first weights are kept."""
        if not self.is_solved(spec):
            return SCRATCH_BYTES
        itemsize = 8 if spec.dtype is DType.F64 else 4
        solving = [solution_bytes(_width(spec, name)) for name in self.grams(spec)]
        return max(solving, default=itemsize * spec.numel + polar_bytes(spec.shape[0], spec.shape[1], itemsize))

    def _moments(self, spec: TensorSpec, statistics: Statistics, delta: Tensor, sign: int) -> Statistics:
        """Gram matrices and cubic moment after the contribution has entered (sign 1) or left (sign -1)."""
        kept = self.grams(spec)
        old = {name: tensor for name, tensor in statistics.items() if name not in ACCUMULATOR}
        delta_sq = squared_norm(delta) if kept else 0.0
        if delta_sq == 0 or not isfinite(delta_sq):
            return old
        new = _moments_of(delta, sqrt(delta_sq), kept)
        for name, tensor in new.items():
            torch.add(old[name], tensor, alpha=sign, out=tensor) if name in old else tensor.mul_(sign)
        # What is left of the last contribution is rounding, and solving with it would blow it up.
        return {} if sign < 0 and float(diagonal(new[kept[0]]).sum()) < 0.5 else new

    def _with_moments(self, spec: TensorSpec, folded: Folded, moments: Statistics) -> Folded:
        kept = self.grams(spec)
        observed = {name: float(name in kept) for name in ("input_gram", "output_gram")} if self.is_solved(spec) else {}
        return folded._replace(statistics={**folded.statistics, **moments}, observed=observed)

    def _solution(self, spec: TensorSpec, statistics: Statistics, total: Tensor, grams: Sequence[str]) -> Tensor:
        """The closed form on one side, or the mean of both; one decomposition is in memory at a time."""
        solution = None
        try:
            for name in grams:
                solution = _one_side(name, statistics, total, self.rule, solution)
        except LinAlgError as error:
            raise FatalError(
                f"the statistics of {spec.name!r} {list(spec.shape)} cannot be decomposed: {error}",
                hint="Run `mergenode verify`; when it finds no damage, add this tensor to `exclude`.",
            ) from error
        assert solution is not None
        return solution


def closed_form(
    method: str, rule: FilterRule, scaling: Scaling, *, sides: object, width_limit: object,
    exclude: Sequence[str], include: Sequence[str],
) -> ClosedForm:  # fmt: skip
    """Validates the options that both methods share. Raises UsageError."""
    if sides not in SIDES:
        raise UsageError(f"{method}: option 'sides' is {sides!r}", hint=f"The choices are: {', '.join(SIDES)}.")
    if isinstance(width_limit, bool) or not isinstance(width_limit, int) or width_limit < 0:
        raise UsageError(
            f"{method}: option 'width_limit' is {width_limit!r}",
            hint="Give the widest side that may have a Gram matrix, a whole number of at least 0.",
        )
    taken, spared = checked_patterns(method, "include", include), checked_patterns(method, "exclude", exclude)
    return ClosedForm(
        method=method, rule=rule, sides=str(sides), width_limit=width_limit, scaling=scaling,
        include=taken, exclude=spared,
    )  # fmt: skip


def _accumulator(statistics: Statistics) -> Statistics:
    return {name: tensor for name, tensor in statistics.items() if name in ACCUMULATOR}


def _width(spec: TensorSpec, gram: str) -> int:
    return spec.shape[0] if gram == "output_gram" else spec.shape[1]


def _moments_of(delta: Tensor, norm: float, kept: Sequence[str]) -> dict[str, Tensor]:
    """Gram matrices of T / ||T|| and the cubic moment, new tensors. Normalised first: cubes overflow fp32 early."""
    unit = delta / norm
    new = {name: packed_gram(unit.mT if name == "output_gram" else unit) for name in kept}
    m, n = delta.shape
    # The cubic moment is a product with either Gram matrix: with the smaller one, where that pays for making it.
    if "output_gram" not in new and 2 * m <= n:
        return {**new, "cubic": (unit @ unit.mT) @ delta}
    del unit
    cubic = torch.empty_like(delta)
    if "output_gram" in new and (m <= n or "input_gram" not in new):
        product(delta.mT, new["output_gram"], out=cubic.mT)
    else:
        product(delta, new["input_gram"], out=cubic)
    return {**new, "cubic": cubic}


def _one_side(name: str, statistics: Statistics, total: Tensor, rule: FilterRule, onto: Tensor | None) -> Tensor:
    """The closed form on the input or the output side, (d_out, d_in), or its mean with ``onto``, which it replaces."""
    if name == "input_gram":
        return filtered_solution(total, statistics["cubic"], statistics[name], rule, onto=onto)
    turned = filtered_solution(
        total.mT, statistics["cubic"].mT, statistics[name], rule, onto=None if onto is None else onto.mT
    )
    return turned.mT.contiguous()
