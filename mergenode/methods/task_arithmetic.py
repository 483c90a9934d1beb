"""Task arithmetic: ``base + scale * sum of task vectors`` (Ilharco et al. 2023, arXiv 2212.04089, section
2)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mergenode.methods.accumulator import (
    SCRATCH_BYTES,
    advance_counts,
    combine_sums,
    export_scaled,
    fold_sum,
    pool_counts,
    retract_sum,
    withdraw_counts,
)
from mergenode.methods.contract import Method, Statistics
from mergenode.methods.layouts import accumulator_layouts
from mergenode.methods.scaling import checked_scaling
from mergenode.types import TensorSpec

PUBLISHED_SCALE = 0.3
"""The paper's choice for eight tasks."""


def task_arithmetic(*, scale: float | str = PUBLISHED_SCALE, profile: Mapping[str, float] | None = None) -> Method:
    """The method with one global ``scale``; 0.3 is the paper's choice for eight tasks (own), 0.1 is common for
    twenty. ``scale`` and ``profile``: see ``scaling``.

    Commutative, combinable and retractable, each up to fp32 rounding of the running sum. Totals: ``count``
    and ``weight_sum``, for information; export does not need them.

    Raises:
        UsageError: an option has a value that it does not take.
    """
    scaling = checked_scaling("task_arithmetic", scale, PUBLISHED_SCALE, profile)

    def export(spec: TensorSpec, statistics: Statistics, base: Tensor, totals: Mapping[str, float]) -> Tensor:
        return export_scaled(statistics, base, scaling.of(spec), keep_first=False)

    return Method(
        name="task_arithmetic",
        reference="Ilharco et al. 2023, Editing Models with Task Arithmetic, arXiv 2212.04089, section 2",
        options=scaling.options,
        fold=lambda spec, statistics, base, incoming: fold_sum(statistics, base, incoming),
        advance=advance_counts,
        export=export,
        elementwise=lambda spec: True,
        working_bytes=lambda spec: SCRATCH_BYTES,
        needs_totals=False,
        own_scale=lambda totals: PUBLISHED_SCALE,
        uses_totals=lambda spec: False,
        exact=True,
        commutative=True,
        state_factor=lambda spec: 1.0,
        combine=lambda spec, left, right, base: combine_sums(left, right, base),
        retract=lambda spec, statistics, base, incoming: retract_sum(statistics, base, incoming),
        withdraw=withdraw_counts,
        pool=pool_counts,
        layouts=accumulator_layouts,
    )
