"""MagMax: per element the task vector of largest magnitude (Marczak et al. 2024, arXiv 2407.06322).

The maximum of magnitudes over all contributions is the maximum over the winner so far and the newcomer. Two values of
equal magnitude and opposite sign tie; the positive one wins, so that the order of arrival does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mergenode.maths.norms import CHUNK, chunks, exact_total, shown_inner, squared_norm
from mergenode.methods.accumulator import advance_counts, pool_counts, withdraw_counts
from mergenode.methods.contract import Folded, Incoming, Method, Statistics
from mergenode.methods.layouts import Stored
from mergenode.methods.scaling import OWN, checked_scaling
from mergenode.types import TensorSpec


def magmax(*, scale: float | str = OWN, profile: Mapping[str, float] | None = None) -> Method:
    """The method with ``scale`` (own: 1) of the selected task vector and factors by name pattern (see ``scaling``).

    Commutative and combinable without any rounding. A contribution cannot be retracted: what it displaced is gone.
    Totals: ``count`` and ``weight_sum``, for information.

    Raises:
        UsageError: an option has a value that it does not take.
    """
    scaling = checked_scaling("magmax", scale, 1.0, profile)

    def export(spec: TensorSpec, statistics: Statistics, base: Tensor, totals: Mapping[str, float]) -> Tensor:
        if not statistics:
            return base
        return scaling.publish(spec, base, statistics["selected"].clone())

    def combine(spec: TensorSpec, left: Statistics, right: Statistics, base: Tensor) -> Statistics:
        if not left or not right:
            return left or right
        return {"selected": select(left["selected"], right["selected"])}

    return Method(
        name="magmax",
        reference="Marczak et al. 2024, MagMax, arXiv 2407.06322",
        options=scaling.options,
        fold=_fold,
        advance=advance_counts,
        export=export,
        elementwise=lambda spec: True,
        working_bytes=lambda spec: 8 * 8 * CHUNK,
        needs_totals=False,
        uses_totals=lambda spec: False,
        exact=True,
        commutative=True,
        state_factor=lambda spec: 1.0,
        combine=combine,
        withdraw=withdraw_counts,
        idempotent=True,
        pool=pool_counts,
        layouts=lambda spec: ({"selected": Stored(spec.shape)},),
    )


def select(left: Tensor, right: Tensor) -> Tensor:
    """Elementwise the one of larger magnitude, of two opposite values the positive one: a new tensor.

    Commutative and associative, because it is the maximum of (|x|, x). A value that is not finite wins.
    The sum of two numbers has the sign of the larger one, and is plus zero where they cancel.
    """
    return torch.maximum(left.abs(), right.abs()).copysign_(left + right)


def _fold(spec: TensorSpec, statistics: Statistics, base: Tensor, incoming: Incoming) -> Folded:
    delta = incoming.delta.reshape(-1)
    before = statistics["selected"].reshape(-1) if statistics else None
    after, zeros, won = torch.empty_like(delta), torch.zeros_like(delta[:CHUNK]), torch.empty_like(delta[:CHUNK])
    entered, merge, dot = [], [], []
    for part in chunks(delta.numel()):
        moved = delta[part]
        old = before[part] if before is not None else zeros[: len(moved)]
        new = after[part].copy_(select(old, moved))
        winning = won[: len(moved)].copy_(torch.eq(new, moved).view(torch.uint8)).mul_(moved)
        entered.append(shown_inner(winning, winning))
        merge.append(shown_inner(new, new))
        dot.append(shown_inner(moved, old))
    delta_sq = squared_norm(delta)
    sums = {"merge_sq": exact_total(merge), "dot": exact_total(dot)}
    sums |= {"delta_sq": delta_sq, "kept_sq": min(exact_total(entered), delta_sq)}
    return Folded({"selected": after.view(incoming.delta.shape)}, sums)
