"""Weighted average of the contributions: ``base + sum(w tau) / sum(w)`` (model soups, Wortsman et al. 2022,
eq. 1)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mergenode.errors import FatalError
from mergenode.methods.accumulator import (
    SCRATCH_BYTES,
    advance_counts,
    combine_sums,
    export_scaled,
    fold_sum,
    retract_sum,
)
from mergenode.methods.contract import Method, Statistics
from mergenode.types import TensorSpec


def average() -> Method:
    """The mean of all contributions; a tensor that some do not mention counts as unchanged there.

    Commutative, combinable and retractable, each up to fp32 rounding of the running sum. A single
    contribution of weight 1 is exported bit for bit. Totals: ``count`` and ``weight_sum``.
    """

    def export(spec: TensorSpec, statistics: Statistics, base: Tensor, totals: Mapping[str, float]) -> Tensor:
        if not statistics:
            return base
        weight_sum = totals["weight_sum"]
        if weight_sum <= 0:
            raise FatalError(
                f"average: the weights of the contributions sum to {weight_sum}",
                hint="Give contributions weights above 0.",
            )
        return export_scaled(statistics, base, 1.0 / weight_sum, keep_first=totals["count"] == 1)

    return Method(
        name="average",
        reference="Wortsman et al. 2022, Model soups, arXiv 2203.05482, uniform soup (section 2)",
        options={},
        fold=lambda spec, statistics, base, incoming: fold_sum(statistics, base, incoming),
        advance=advance_counts,
        export=export,
        elementwise=lambda spec: True,
        working_bytes=lambda spec: SCRATCH_BYTES,
        needs_totals=False,
        exact=True,
        commutative=True,
        state_factor=1.0,
        combine=lambda spec, left, right, base: combine_sums(left, right, base),
        retract=lambda spec, statistics, base, incoming: retract_sum(statistics, base, incoming),
    )
