"""Iso-C: the sum of task vectors with all its directions made equally strong (Marczak et al. 2025, arXiv 2502.04959).

For the weight of a linear map with S = sum of task vectors = U diag(s) V^T the merged task vector is mean(s) U V^T; all
other tensors are averaged. It is a function of the sum alone, so the state is one tensor per weight, in any order.

Deviation from the published code: a sum without full rank (few adapters) has singular vectors that rounding chose. They
are left out, and the mean is taken over the singular values that are there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor

from mergenode.maths.polar import polar_bytes
from mergenode.methods.accumulator import (
    SCRATCH_BYTES,
    advance_counts,
    combine_sums,
    fold_sum,
    pool_counts,
    retract_sum,
    running_sum,
    withdraw_counts,
)
from mergenode.methods.contract import Method, Statistics
from mergenode.methods.isotropic import flatten_spectrum
from mergenode.methods.layouts import accumulator_layouts
from mergenode.methods.linear_maps import DEFAULT_EXCLUDE, checked_patterns, is_linear_map
from mergenode.methods.mean import export_mean
from mergenode.methods.scaling import OWN, checked_scaling
from mergenode.types import DType, TensorSpec


def iso(
    *,
    scale: float | str = OWN,
    profile: Mapping[str, float] | None = None,
    exclude: Sequence[str] = DEFAULT_EXCLUDE,
    include: Sequence[str] = (),
) -> Method:
    """Iso-C with outer ``scale`` (own: 1) and factors by name pattern (see ``scaling``).

    ``exclude`` and ``include`` are name patterns of weights that are (not) linear maps, see ``linear_maps``.
    Commutative, combinable and retractable, each up to fp32 rounding of the running sum. Totals: ``count`` and
    ``weight_sum``.

    Raises:
        UsageError: an option has a value that it does not take.
    """
    scaling = checked_scaling("iso", scale, 1.0, profile)
    taken, spared = checked_patterns("iso", "include", include), checked_patterns("iso", "exclude", exclude)
    flattened = partial(is_linear_map, include=taken, exclude=spared)

    def export(spec: TensorSpec, statistics: Statistics, base: Tensor, totals: Mapping[str, float]) -> Tensor:
        if flattened(spec) and statistics:
            return scaling.publish(spec, base, flatten_spectrum(spec, running_sum(statistics, base)))
        return export_mean("iso", statistics, base, totals, scaling.of(spec))

    def export_bytes(spec: TensorSpec) -> int:
        if not flattened(spec):
            return SCRATCH_BYTES
        itemsize = 8 if spec.dtype is DType.F64 else 4
        # The running sum, while the statistics still hold the first contribution's weights.
        return spec.numel * itemsize + polar_bytes(spec.shape[0], spec.shape[1], itemsize)

    return Method(
        name="iso",
        reference="Marczak et al. 2025, No Task Left Behind, arXiv 2502.04959, Iso-C",
        options={**scaling.options, "exclude": list(spared), "include": list(taken)},
        fold=lambda spec, statistics, base, incoming: fold_sum(statistics, base, incoming),
        advance=advance_counts,
        export=export,
        elementwise=lambda spec: True,
        working_bytes=lambda spec: SCRATCH_BYTES,
        export_bytes=export_bytes,
        needs_totals=False,
        uses_totals=lambda spec: not flattened(spec),
        exact=True,
        commutative=True,
        state_factor=lambda spec: 1.0,
        exports_whole=flattened,
        combine=lambda spec, left, right, base: combine_sums(left, right, base),
        retract=lambda spec, statistics, base, incoming: retract_sum(statistics, base, incoming),
        withdraw=withdraw_counts,
        pool=pool_counts,
        layouts=accumulator_layouts,
    )
