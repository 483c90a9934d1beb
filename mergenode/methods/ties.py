"""TIES: trim, elect a sign, merge what agrees with it (Yadav et al. 2023, arXiv 2306.01708, algorithm 1).

Per element the outcome depends on four numbers only, which add up over contributions in any order: the sum S of the
trimmed task vectors t, their positive mass P = sum max(t, 0), and how many of them were positive and negative. The
elected sign is that of S, the merged value the mean of those that have it: of the mass P, or P - S.

Deviations from the published code:

- Each tensor is trimmed by itself, as mergekit does. A threshold over the whole model would take another pass over
  every contribution, and lets tensors that move little (norms, biases) lose all they learnt.
- All magnitudes equal to the threshold stay, and a sum of zero elects plus.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

import torch
from torch import Tensor

from mergenode.errors import FatalError, UsageError
from mergenode.maths.magnitude import Pieces, kth_largest_of, pieces_of
from mergenode.maths.norms import CHUNK, chunks, exact_total, shown_inner, squared_norm
from mergenode.methods.accumulator import advance_counts, pool_counts, withdraw_counts
from mergenode.methods.contract import Folded, Incoming, Method, Statistics
from mergenode.methods.layouts import Layout, Stored
from mergenode.methods.scaling import OWN, checked_scaling
from mergenode.types import DType, TensorSpec

MOST_VOTES = torch.iinfo(torch.int16).max
"""Most contributions that may agree on one element."""

MASSES = ("positive", "sum")
COUNTS = ("positive_count", "negative_count")


def ties(*, density: float = 0.2, scale: float | str = OWN, profile: Mapping[str, float] | None = None) -> Method:
    """TIES that keeps the share ``density`` of largest magnitudes of every tensor of a contribution.

    ``scale`` (own: 1) and ``profile``: see ``scaling``. The weight of a contribution scales its task vector.
    Commutative and combinable up to fp32 rounding of the masses; retractable, because the same trim is computed again.
    Totals: ``count`` and ``weight_sum``, for information.

    Raises:
        UsageError: an option has a value that it does not take.
    """
    if isinstance(density, bool) or not isinstance(density, (int, float)) or not 0.0 < density <= 1.0:
        raise UsageError(
            f"ties: option 'density' is {density!r}",
            hint="Give a share above 0 and at most 1 (trim nothing); 0.2 is the default.",
        )
    share = float(density)
    scaling = checked_scaling("ties", scale, 1.0, profile)

    def export(spec: TensorSpec, statistics: Statistics, base: Tensor, totals: Mapping[str, float]) -> Tensor:
        return scaling.publish(spec, base, elected_mean(statistics)) if statistics else base

    return Method(
        name="ties",
        reference="Yadav et al. 2023, TIES-Merging, arXiv 2306.01708, algorithm 1",
        options={"density": share, **scaling.options},
        fold=lambda spec, statistics, base, incoming: _vote(spec, statistics, incoming, share, 1),
        advance=advance_counts,
        export=export,
        elementwise=lambda spec: True,
        survey=(lambda spec, pieces: trim_threshold(pieces, share)) if share < 1.0 else None,
        working_bytes=_working_bytes,
        needs_totals=False,
        uses_totals=lambda spec: False,
        exact=True,
        commutative=True,
        state_factor=lambda spec: 2.5 if spec.dtype is DType.F64 else 3.0,
        combine=lambda spec, left, right, base: _combine(spec, left, right),
        retract=lambda spec, statistics, base, incoming: _vote(spec, statistics, incoming, share, -1),
        withdraw=withdraw_counts,
        pool=pool_counts,
        layouts=_layouts,
    )


def _layouts(spec: TensorSpec) -> tuple[Layout, ...]:
    masses = {"sum": Stored(spec.shape), "positive": Stored(spec.shape, least=0.0)}
    return ({**masses, **{name: Stored(spec.shape, votes=True) for name in COUNTS}},)


def elected_mean(statistics: Statistics) -> Tensor:
    """The mean of the values that have the elected sign, 0 where nobody voted: a new tensor."""
    positive = statistics["positive"]
    negative = positive - statistics["sum"]  # what is elected is the larger mass, so nothing cancels where it is used
    yes, no = (statistics[name].clamp(min=1).to(positive.dtype) for name in COUNTS)
    return torch.where(statistics["sum"] >= 0, positive / yes, negative.neg_().div_(no))


def trim_threshold(delta: Pieces, density: float) -> float:
    """The smallest magnitude that stays when the share ``density`` of ``delta`` stays, at least one element."""
    if density == 1.0 or delta.numel == 0:
        return 0.0
    return kth_largest_of(delta, max(1, round(density * delta.numel)))


def _vote(spec: TensorSpec, statistics: Statistics, incoming: Incoming, density: float, sign: int) -> Folded:
    """Add (sign 1) or take back (sign -1) the trimmed task vector. Tensors of the result are new."""
    delta = incoming.delta.reshape(-1)
    delta_sq = squared_norm(delta)
    if not isfinite(delta_sq):
        # Nothing can be elected; the sums tell the caller, who refuses the contribution.
        return Folded(statistics, {"delta_sq": delta_sq, "kept_sq": delta_sq, "merge_sq": delta_sq, "dot": 0.0})
    threshold = incoming.surveyed
    if threshold is None:
        threshold = trim_threshold(pieces_of(delta), density)
    trim = _below(threshold, delta.dtype)
    before = {name: tensor.reshape(-1) for name, tensor in statistics.items()}
    nobody = _nobody(delta[:CHUNK])
    after = {name: torch.empty_like(delta, dtype=tensor.dtype) for name, tensor in nobody.items()}
    trimmed, votes = nobody["sum"].clone(), nobody["positive_count"].clone()
    kept, merge, dot = [], [], []
    for part in chunks(delta.numel()):
        moved, there = delta[part], {name: tensor[part] for name, tensor in after.items()}
        here = {name: before[name][part] if before else none[: len(moved)] for name, none in nobody.items()}
        entering = torch.hardshrink(moved, trim, out=trimmed[: len(moved)])
        kept.append(shown_inner(entering, entering))
        dot.append(shown_inner(moved, here["sum"]))
        _count(here, there, entering, votes[: len(moved)], sign)
        merge.append(shown_inner(there["sum"], there["sum"]))
        _check_votes(spec, there)
    sums = {"merge_sq": exact_total(merge), "dot": exact_total(dot)}
    sums |= {"delta_sq": delta_sq, "kept_sq": min(exact_total(kept), delta_sq)}
    return Folded({name: tensor.view(incoming.delta.shape) for name, tensor in after.items()}, sums)


def _count(before: Statistics, after: Statistics, trimmed: Tensor, votes: Tensor, sign: int) -> None:
    """One chunk: masses and votes of ``before`` and of the trimmed task vector, written into ``after``.

    ``votes``: scratch, of the type of the counts. ``trimmed`` is consumed.
    """
    for name, compare in zip(COUNTS, (torch.gt, torch.lt), strict=True):
        torch.add(before[name], compare(trimmed, 0, out=votes), alpha=sign, out=after[name])
    torch.add(before["sum"], trimmed, alpha=sign, out=after["sum"])
    torch.add(before["positive"], trimmed.clamp_(min=0), alpha=sign, out=after["positive"])
    if sign < 0:
        _forget_rounding(after)


def _forget_rounding(statistics: Statistics) -> None:
    """Masses that nobody stands behind any more are 0, whatever subtraction left of them. In place."""
    positive, total = statistics["positive"], statistics["sum"]
    yes, no = (statistics[name] > 0 for name in COUNTS)
    positive.clamp_(min=0).mul_(yes)
    torch.where(no, torch.where(yes, total, total.clamp(max=0)), positive, out=total)


def _working_bytes(spec: TensorSpec) -> int:
    """Magnitudes near the threshold, and chunks: scratch and what stands for empty statistics."""
    return (8 if spec.dtype is DType.F64 else 4) * spec.numel // 8 + 12 * 8 * CHUNK


def _below(threshold: float, dtype: torch.dtype) -> float:
    """The next smaller number of this type: what is above it has at least the magnitude ``threshold``."""
    limit = torch.tensor(threshold, dtype=dtype)
    return float(torch.nextafter(limit, torch.tensor(-1.0, dtype=dtype)))


def _nobody(delta: Tensor) -> Statistics:
    masses = {name: torch.zeros_like(delta) for name in MASSES}
    return masses | {name: torch.zeros_like(delta, dtype=torch.int16) for name in COUNTS}


def _combine(spec: TensorSpec, left: Statistics, right: Statistics) -> Statistics:
    if not left or not right:
        return left or right
    total = {name: left[name] + right[name] for name in (*MASSES, *COUNTS)}
    _check_votes(spec, total)
    return total


def _check_votes(spec: TensorSpec, statistics: Statistics) -> None:
    """Counts wrap around below zero when there are too many. Raises FatalError."""
    for name in COUNTS:
        votes = statistics[name]
        if votes.numel() and int(votes.amin()) < 0:
            raise FatalError(
                f"ties: {spec.name!r}: more than {MOST_VOTES} contributions agree on an element, or one was taken back "
                "that had not been folded",
                hint="Run `mergenode verify`; without damage, start a new state directory on the published version.",
            )
