"""Task arithmetic: ``base + scale * sum of task vectors`` (Ilharco et al. 2023, arXiv 2212.04089, section
2)."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from torch import Tensor

from mergenode.errors import UsageError
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
from mergenode.methods.scaling import Scaling, checked_profile
from mergenode.types import TensorSpec


def task_arithmetic(*, scale: float = 0.3, profile: Mapping[str, float] | None = None) -> Method:
    """The method with one global ``scale``; 0.3 is the paper's choice for eight tasks, 0.1 is common for
    twenty. ``profile``: factors by name pattern, see ``scaling``.

    Commutative, combinable and retractable, each up to fp32 rounding of the running sum. Totals: ``count``
    and ``weight_sum``, for information; export does not need them.

    Raises:
        UsageError: ``scale`` is not a finite number, or a factor of ``profile`` is not one of at least 0.
    """
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not isfinite(scale):
        raise UsageError(
            f"task_arithmetic: option 'scale' is {scale!r}", hint="Give a finite number; 0.3 is the default."
        )
    scaling = Scaling(float(scale), float(scale), checked_profile("task_arithmetic", profile))

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
        uses_totals=lambda spec: False,
        exact=True,
        commutative=True,
        state_factor=lambda spec: 1.0,
        combine=lambda spec, left, right, base: combine_sums(left, right, base),
        retract=lambda spec, statistics, base, incoming: retract_sum(statistics, base, incoming),
        withdraw=withdraw_counts,
        pool=pool_counts,
    )
