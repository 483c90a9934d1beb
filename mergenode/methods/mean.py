"""The weighted mean of task vectors: what matrix methods do with the tensors that are not linear maps."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mergenode.errors import FatalError
from mergenode.methods.accumulator import export_scaled
from mergenode.methods.contract import Statistics


def export_mean(
    method: str, statistics: Statistics, base: Tensor, totals: Mapping[str, float], factor: float
) -> Tensor:
    """``base + factor * S / weight_sum`` of an accumulator (see ``accumulator``), element by element.

    A single contribution of weight 1 comes back bit for bit when ``factor`` is 1.

    Raises:
        FatalError: the weights of the contributions do not sum to more than 0.
    """
    if not statistics:
        return base
    weight_sum = totals["weight_sum"]
    if weight_sum <= 0:
        raise FatalError(
            f"{method}: the weights of the contributions sum to {weight_sum}",
            hint="Give contributions weights above 0.",
        )
    scale = factor / weight_sum
    return export_scaled(statistics, base, scale, keep_first=totals["count"] == 1 and scale == 1.0)
