"""From the records of a fold pass to what people read: totals, whole-model and per-group figures, digests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import fsum, isfinite, sqrt
from typing import Any

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.errors import RejectedError, RejectReason
from mergenode.ledger.groups import layer_group
from mergenode.maths.norms import exact_total
from mergenode.types import GroupReport

WHOLE = "*"
"""Name of the group that is the whole model."""

_OF_THE_MERGE = ("merge_sq", "before_sq", "dot")

NO_SUMS = {"delta_sq": 0.0, "kept_sq": 0.0, "merge_sq": 0.0, "dot": 0.0, "before_sq": 0.0}
Tensors = Mapping[str, Mapping[str, Any]]
"""Per tensor: ``{"statistics": digests, "folds": [{"sums": ..., "observed": ...} per contribution]}``."""


def all_tensors(records: Mapping[int, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The tensor records of all shards, in shard order."""
    return {name: tensor for index in sorted(records) for name, tensor in records[index]["tensors"].items()}


def whole_sums(tensors: Tensors, fold: int) -> dict[str, float]:
    """Sums over all tensors of one contribution's fold, correctly rounded, so that the order does not matter.

    What describes the running merge is left out when it was not observed for one of the tensors.
    """
    parts: dict[str, list[float]] = {}
    for tensor in tensors.values():
        for name, value in tensor["folds"][fold]["sums"].items():
            parts.setdefault(name, []).append(value)
    return {
        name: exact_total(values)
        for name, values in parts.items()
        if name not in _OF_THE_MERGE or len(values) == len(tensors)
    }


def finite_sums(tensors: Tensors, fold: int, label: str, weight: float = 1.0) -> dict[str, float]:
    """``whole_sums`` of a contribution, zeros for a model that has nothing to merge.

    Raises RejectedError: NORM_TOO_LARGE when norms that are finite add up to one that is not.
    """
    sums = whole_sums(tensors, fold) if tensors else dict(NO_SUMS)
    refuse_overflow(sums, f"{label}: its update", weight)
    return sums


def refuse_overflow(sums: Mapping[str, float], what: str, weight: float = 1.0) -> None:
    """Raises RejectedError (NORM_TOO_LARGE) when a sum of squares or products does not fit into float64.

    ``weight``: what the update was multiplied by, which is the first suspect when it is large.
    """
    if not all(isfinite(value) for value in sums.values()):
        raise RejectedError(
            RejectReason.NORM_TOO_LARGE,
            f"{what} is so large that its norm overflows" + (f", at a weight of {weight:g}" if weight > 1 else ""),
            hint=("Give it a smaller weight; if that does not help, the" if weight > 1 else "The")
            + " training run diverged: push an earlier checkpoint of the run.",
        )


def relative_norm(base: BaseModel, tensors: Tensors, fold: int) -> float:
    """Norm of the contribution's matrices (two dimensions and more) over that of the base's: 0 = no change.

    An unrelated model of the same shapes comes out above 1; fine-tunes stay well below.
    """
    sums = (tensor["folds"][fold]["sums"] for name, tensor in tensors.items() if len(base.specs[name].shape) > 1)
    # What was vetoed counts: a veto is no reason to take another model for a fine-tune of this base.
    moved = fsum(each["delta_sq"] + each.get("vetoed_sq", 0.0) for each in sums)
    return sqrt(moved) / base.matrix_norm if base.matrix_norm else 0.0


def group_reports(base: BaseModel, tensors: Tensors, fold: int) -> tuple[GroupReport, ...]:
    """One report for the whole model, then one per layer group in model order."""
    return tuple(_report(group, names, base, tensors, fold) for group, names in _members(tensors).items())


def vetoed_squares(tensors: Tensors, fold: int) -> dict[str, tuple[float, float]]:
    """Squared norms of what was vetoed and of what entered, for the whole model and per layer group."""
    found = {}
    for group, names in _members(tensors).items():
        sums = whole_sums({name: tensors[name] for name in names}, fold)
        found[group] = (sums.get("vetoed_sq", 0.0), sums.get("delta_sq", 0.0))
    return found


def _members(tensors: Tensors) -> dict[str, list[str]]:
    members: dict[str, list[str]] = {WHOLE: list(tensors)}
    for name in tensors:
        members.setdefault(layer_group(name), []).append(name)
    return members


def _report(group: str, names: Iterable[str], base: BaseModel, tensors: Tensors, fold: int) -> GroupReport:
    names = list(names)
    sums = whole_sums({name: tensors[name] for name in names}, fold)
    delta, kept = sqrt(sums.get("delta_sq", 0.0)), sqrt(sums.get("kept_sq", 0.0))
    before = sqrt(sums.get("before_sq", 0.0)) if "dot" in sums else 0.0
    ranks = [
        (base.specs[name].numel, observed["effective_rank"], observed["full_rank"])
        for name in names
        if "effective_rank" in (observed := tensors[name]["folds"][fold]["observed"])
    ]
    size = sum(numel for numel, _, _ in ranks)
    return GroupReport(
        group=group,
        parameters=sum(base.specs[name].numel for name in names),
        delta_norm=delta,
        kept_norm=kept,
        merge_norm=sqrt(sums["merge_sq"]) if "merge_sq" in sums else None,
        base_norm=sqrt(fsum(base.squared_norms[name] for name in names)),
        cosine=sums["dot"] / (delta * before) if delta and before else None,
        share_kept=kept / delta if delta else None,
        effective_rank=sum(n * rank for n, rank, _ in ranks) / size if size else None,
        sign_conflict=sums["opposing"] / sums["compared"] if sums.get("compared") else None,
        capacity_taken=sum(n * rank / full for n, rank, full in ranks) / size if size else None,
    )
