"""Weighted average of the contributions: ``base + sum(w tau) / sum(w)`` (model soups, Wortsman et al. 2022,
eq. 1)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mergenode.methods.accumulator import (
    SCRATCH_BYTES,
    advance_counts,
    combine_sums,
    fold_sum,
    pool_counts,
    retract_sum,
    withdraw_counts,
)
from mergenode.methods.contract import Method, Statistics
from mergenode.methods.layouts import accumulator_layouts
from mergenode.methods.mean import export_mean
from mergenode.methods.scaling import Scaling, checked_profile
from mergenode.types import TensorSpec


def average(*, profile: Mapping[str, float] | None = None) -> Method:
    """The mean of all contributions; a tensor that some do not mention counts as unchanged there.

    Commutative, combinable and retractable, each up to fp32 rounding of the running sum. A single
    contribution of weight 1 is exported bit for bit. ``profile``: factors by name pattern, see ``scaling``.
    Totals: ``count`` and ``weight_sum``.

    Raises:
        UsageError: a factor of ``profile`` is not a number from 0 to ``LARGEST_FACTOR``.
    """
    scaling = Scaling(1.0, 1.0, checked_profile("average", profile))

    def export(spec: TensorSpec, statistics: Statistics, base: Tensor, totals: Mapping[str, float]) -> Tensor:
        return export_mean("average", statistics, base, totals, scaling.of(spec))

    return Method(
        name="average",
        reference="Wortsman et al. 2022, Model soups, arXiv 2203.05482, uniform soup (section 2)",
        options={"profile": dict(scaling.profile)},
        fold=lambda spec, statistics, base, incoming: fold_sum(statistics, base, incoming),
        advance=advance_counts,
        export=export,
        elementwise=lambda spec: True,
        working_bytes=lambda spec: SCRATCH_BYTES,
        needs_totals=False,
        exact=True,
        commutative=True,
        state_factor=lambda spec: 1.0,
        combine=lambda spec, left, right, base: combine_sums(left, right, base),
        retract=lambda spec, statistics, base, incoming: retract_sum(statistics, base, incoming),
        withdraw=withdraw_counts,
        pool=pool_counts,
        layouts=accumulator_layouts,
    )
