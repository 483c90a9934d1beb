"""TIES: trim, elect a sign, merge what agrees with it (Yadav et al. 2023, arXiv 2306.01708, algorithm 1).

Per element the outcome depends on four numbers only, which add up over contributions in any order: the positive mass P
= sum max(t, 0) and the negative mass N = sum max(-t, 0) of the trimmed task vectors t, and how many of them were
positive and negative. The elected sign is that of P - N, the merged value the mean of those that have it.

Deviations from the published code:

- Each tensor is trimmed by itself, as mergekit does. A threshold over the whole model would take another pass over
  every contribution, and lets tensors that move little (norms, biases) lose all they learnt.
- All magnitudes equal to the threshold stay, and a tie between the masses elects plus.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

import torch
from torch import Tensor

from mergenode.errors import FatalError, UsageError
from mergenode.maths.magnitude import kth_largest_magnitude, selection_bytes
from mergenode.maths.norms import CHUNK, chunks, exact_total, squared_norm
from mergenode.methods.accumulator import advance_counts
from mergenode.methods.contract import Folded, Incoming, Method, Statistics
from mergenode.methods.scaling import OWN, checked_scaling
from mergenode.types import DType, TensorSpec

MOST_VOTES = torch.iinfo(torch.int16).max
"""Most contributions that may agree on one element."""

MASSES = ("positive", "negative")
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
        elementwise=lambda spec: share == 1.0,
        working_bytes=lambda spec: selection_bytes(spec.numel, 8 if spec.dtype is DType.F64 else 4) + 12 * 8 * CHUNK,
        needs_totals=False,
        exact=True,
        commutative=True,
        state_factor=lambda spec: 2.5 if spec.dtype is DType.F64 else 3.0,
        combine=lambda spec, left, right, base: _combine(spec, left, right),
        retract=lambda spec, statistics, base, incoming: _vote(spec, statistics, incoming, share, -1),
    )


def elected_mean(statistics: Statistics) -> Tensor:
    """The mean of the values that have the elected sign, 0 where nobody voted: a new tensor."""
    positive, negative = (statistics[name] for name in MASSES)
    yes, no = (statistics[name].clamp(min=1).to(positive.dtype) for name in COUNTS)
    return torch.where(positive >= negative, positive / yes, negative.neg() / no)


def trim_threshold(delta: Tensor, density: float) -> float:
    """The smallest magnitude that stays when the share ``density`` of ``delta`` stays, at least one element."""
    if density == 1.0 or delta.numel() == 0:
        return 0.0
    return kth_largest_magnitude(delta, max(1, round(density * delta.numel())))


def _vote(spec: TensorSpec, statistics: Statistics, incoming: Incoming, density: float, sign: int) -> Folded:
    """Add (sign 1) or take back (sign -1) the trimmed task vector. Tensors of the result are new."""
    delta = incoming.delta.reshape(-1)
    delta_sq = squared_norm(delta)
    if not isfinite(delta_sq):
        # Nothing can be elected; the sums tell the caller, who refuses the contribution.
        return Folded(statistics, {"delta_sq": delta_sq, "kept_sq": delta_sq, "merge_sq": delta_sq, "dot": 0.0})
    threshold = trim_threshold(delta, density)
    before = {name: tensor.reshape(-1) for name, tensor in statistics.items()} or _nobody(delta)
    after = {name: torch.empty_like(tensor) for name, tensor in before.items()}
    kept, merge, dot = [], [], []
    for part in chunks(delta.numel()):
        moved, here = delta[part], {name: tensor[part] for name, tensor in before.items()}
        trimmed = moved * (moved.abs() >= threshold)
        for mass, count, side in zip(MASSES, COUNTS, (trimmed, trimmed.neg()), strict=True):
            votes = after[count][part]
            torch.add(here[count], (side > 0).to(votes.dtype), alpha=sign, out=votes)
            torch.add(here[mass], side.clamp(min=0), alpha=sign, out=after[mass][part])
            if sign < 0:  # what rounding left of a mass that nobody stands behind any more
                after[mass][part].clamp_(min=0).mul_(votes > 0)
        old, new = (_net(masses) for masses in (here, {name: after[name][part] for name in MASSES}))
        kept.append(squared_norm(trimmed))
        merge.append(torch.dot(new, new).item())
        dot.append(torch.dot(moved.double(), old).item())
    _check_votes(spec, after)
    sums = {"delta_sq": delta_sq, "kept_sq": exact_total(kept), "merge_sq": exact_total(merge), "dot": exact_total(dot)}
    return Folded({name: tensor.view(incoming.delta.shape) for name, tensor in after.items()}, sums)


def _nobody(delta: Tensor) -> Statistics:
    masses = {name: torch.zeros_like(delta) for name in MASSES}
    return masses | {name: torch.zeros_like(delta, dtype=torch.int16) for name in COUNTS}


def _net(masses: Statistics) -> Tensor:
    """P - N in fp64."""
    return masses["positive"].double() - masses["negative"].double()


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
        if votes.numel() and int(votes.min()) < 0:
            raise FatalError(
                f"ties: {spec.name!r}: more than {MOST_VOTES} contributions agree on an element, or one was taken back "
                "that had not been folded",
                hint="Run `mergenode verify`; without damage, start a new state directory on the published version.",
            )
