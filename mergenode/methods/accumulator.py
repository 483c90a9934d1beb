"""The running sum S of task vectors that a family of methods shares, as per-tensor statistics.

Three states, told apart by their names:

- ``{}``            nothing was folded, S = 0
- ``{"first": W}``  one contribution, kept as its tuned weights W, S = W - base. Exported unchanged it comes
back bit
                    for bit, which ``base + (W - base)`` does not when W is small beside the base.
- ``{"sum": S}``    anything else

All functions work element by element: a slice of the inputs gives the same bits as the same slice of the
result.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt

import torch
from torch import Tensor

from mergenode.maths.norms import CHUNK, chunks, exact_total, shown_squared_norm, squared_norm, wide_buffer
from mergenode.methods.contract import Folded, Incoming, Statistics, Sums

RUNNING_SUM = ("sum", "first")
"""Names of the statistics that hold it."""

SCRATCH_BYTES = 2 * 8 * CHUNK + 2 * 8 * CHUNK
"""What ``fold_sum`` allocates beyond its result: two fp64 chunks and two of at most fp64."""


def running_sum(statistics: Statistics, base: Tensor) -> Tensor:
    """S, shape and dtype of ``base``. For the state ``sum`` the statistic itself: not to be modified."""
    if "sum" in statistics:
        return statistics["sum"]
    if "first" in statistics:
        return statistics["first"] - base
    return torch.zeros_like(base)


def fold_sum(statistics: Statistics, base: Tensor, incoming: Incoming) -> Folded:
    """S + delta and the sums of the contract. Tensors of the result are new, or those of ``incoming``."""
    if not statistics:
        return _fold_first(incoming)
    if not incoming.observe:
        square = shown_squared_norm(incoming.delta)
        # The statistics are ours here, and the same roundings in place save two trips to memory.
        before = statistics["sum"] if "sum" in statistics else statistics["first"].sub_(base)
        return Folded({"sum": before.add_(incoming.delta)}, {"delta_sq": square, "kept_sq": square})
    return _add(statistics, base, incoming.delta, subtract=False)


def retract_sum(statistics: Statistics, base: Tensor, incoming: Incoming) -> Folded:
    """S - delta, exact up to one rounding of the accumulator per element. ``kept_sq`` is what left."""
    return _add(statistics, base, incoming.delta, subtract=True)


def combine_sums(left: Statistics, right: Statistics, base: Tensor) -> Statistics:
    """S_left + S_right; when one of them is empty the other one, unchanged."""
    if not left:
        return right
    if not right:
        return left
    return {"sum": running_sum(left, base) + running_sum(right, base)}


def export_scaled(statistics: Statistics, base: Tensor, scale: float, *, keep_first: bool) -> Tensor:
    """``base + scale * S``, dtype of ``base``; the first contribution's own weights when ``keep_first`` asks
    for them.

    The result may be an input. Multiplication and addition are rounded separately: a fused operation would
    depend on where a slice begins.
    """
    if not statistics:
        return base
    if keep_first and "first" in statistics:
        return statistics["first"]
    if "first" in statistics:
        return (statistics["first"] - base).mul_(scale).add_(base)
    return torch.mul(statistics["sum"], scale).add_(base)


def advance_counts(totals: Mapping[str, float], sums: Sums, weight: float) -> Mapping[str, float]:
    """Totals of a method of the sum family: ``count``, ``weight_sum``, ``norm_sum`` = sum ||delta_i|| over the whole
    model (the norm rule divides it by ``count``) and, to tell people, ``merge_sq``."""
    after = {
        "count": totals.get("count", 0.0) + 1.0,
        "weight_sum": totals.get("weight_sum", 0.0) + weight,
        "norm_sum": totals.get("norm_sum", 0.0) + sqrt(sums["delta_sq"]),
    }
    return {**after, "merge_sq": sums["merge_sq"]} if "merge_sq" in sums else after


def withdraw_counts(totals: Mapping[str, float], sums: Sums, weight: float) -> Mapping[str, float]:
    """The inverse of ``advance_counts``, up to rounding; nothing is left of the last contribution."""
    if totals["count"] <= 1.0:
        return {}
    after = {
        "count": totals["count"] - 1.0,
        "weight_sum": totals["weight_sum"] - weight,
        "norm_sum": max(0.0, totals["norm_sum"] - sqrt(sums["delta_sq"])),
    }
    return {**after, "merge_sq": sums["merge_sq"]} if "merge_sq" in sums else after


def pool_counts(left: Mapping[str, float], right: Mapping[str, float]) -> Mapping[str, float]:
    """Totals of two merges of different contributions; what describes the merged tensors is left out."""
    if not left or not right:
        return left or right
    return {name: left[name] + right[name] for name in ("count", "weight_sum", "norm_sum")}


def _fold_first(incoming: Incoming) -> Folded:
    square = squared_norm(incoming.delta) if incoming.observe else shown_squared_norm(incoming.delta)
    sums = {"delta_sq": square, "kept_sq": square, "merge_sq": square, "dot": 0.0}
    if incoming.tuned is None:
        return Folded({"sum": incoming.delta.clone()}, sums)
    if not incoming.observe:
        return Folded({"first": incoming.tuned}, sums)  # nobody keeps it beyond the next fold
    return Folded({"first": torch.empty_like(incoming.delta).copy_(incoming.tuned)}, sums)


def _add(statistics: Statistics, base: Tensor, delta: Tensor, *, subtract: bool) -> Folded:
    """One pass over the data, chunk by chunk, so that the sums cost no extra trips to memory."""
    result = torch.empty(delta.shape, dtype=delta.dtype, device=delta.device)
    after, moved = result.view(-1), delta.reshape(-1)
    flat_base = base.reshape(-1)
    flat_statistics = {name: tensor.reshape(-1) for name, tensor in statistics.items()}
    operation = torch.sub if subtract else torch.add
    wide_moved, wide_after = (wide_buffer(moved.numel(), moved.device) for _ in range(2))
    delta_parts, merge_parts = [], []
    for part in chunks(moved.numel()):
        here = {name: tensor[part] for name, tensor in flat_statistics.items()}
        before = running_sum(here, flat_base[part])
        operation(before, moved[part], out=after[part])
        d, a = wide_moved[: len(before)].copy_(moved[part]), wide_after[: len(before)].copy_(after[part])
        delta_parts.append(torch.dot(d, d).item())
        merge_parts.append(torch.dot(a, a).item())
    delta_sq = exact_total(delta_parts)
    sums = {"delta_sq": delta_sq, "kept_sq": delta_sq, "merge_sq": exact_total(merge_parts)}
    return Folded({"sum": result}, sums)
