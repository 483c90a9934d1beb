"""TSVM: task singular vectors, decorrelated (Gargiulo et al. 2025, arXiv 2412.00081, algorithm 1).

Of each of n task vectors of a linear map, (d_out, d_in) with k = min(d_out, d_in), the leading floor(k / n) singular
triplets are kept. All left vectors side by side, and all right vectors, are replaced by the nearest orthonormal
matrices, and the merged task vector is their product with all singular values. Other tensors are averaged.

As a stream: with every arrival the share of each contribution shrinks, and what remains of it is a prefix of what was
kept, because triplets are sorted. So cutting the stored triplets to the new share gives what the batch would keep (see
``triplets``). n counts the contributions that move the tensor.

``merge: agree`` is this project's own: the same triplets, put together so that the merge agrees with every contribution
where both its inputs and its outputs lie, see ``maths.agreement``; better with ``rank_share`` 2 than with 1.

Deviations from the published code: triplets in the rounding noise are left out, not padded with arbitrary directions;
a contribution that leaves a tensor as it is takes no share of it. ``rank: adaptive`` and ``outlier_clip`` are this
project's own, in the spirit of rank rules and outlier treatment proposed since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import inf, isfinite, sqrt

from numpy.linalg import LinAlgError
from torch import Tensor

from mergenode.errors import FatalError, UsageError
from mergenode.maths.norms import squared_norm, sum_of_magnitudes
from mergenode.methods.accumulator import SCRATCH_BYTES, advance_counts, combine_sums, fold_sum, pool_counts
from mergenode.methods.contract import Folded, Incoming, Method, Statistics
from mergenode.methods.layouts import accumulator_layouts
from mergenode.methods.linear_maps import DEFAULT_EXCLUDE, checked_patterns, is_linear_map
from mergenode.methods.mean import export_mean
from mergenode.methods.scaling import OWN, checked_scaling
from mergenode.methods.triplets import (
    Shares,
    agreed,
    agreeing_bytes,
    decorrelated,
    decorrelating_bytes,
    folding_bytes,
    leading_triplets,
    pooled,
    sums_of_product,
    triplet_bytes,
    triplet_layouts,
)
from mergenode.types import DType, TensorSpec

RANKS = ("equal", "adaptive")
MERGES = ("decorrelate", "agree")
MOST_SHARE = {"decorrelate": 1.0, "agree": 2.0}


def tsvm(
    *,
    rank_share: float = 1.0,
    rank: str = "equal",
    merge: str = "decorrelate",
    outlier_clip: float | None = None,
    scale: float | str = OWN,
    profile: Mapping[str, float] | None = None,
    exclude: Sequence[str] = DEFAULT_EXCLUDE,
    include: Sequence[str] = (),
) -> Method:
    """TSVM whose n contributions keep floor(rank_share k / n) triplets each, or with ``rank`` adaptive as many in
    proportion as they have singular values that take part (see ``triplets.Shares``).

    ``merge`` agree: see the module; takes a ``rank_share`` up to 2, and equal ranks only.

    ``outlier_clip`` c: elements of a task vector of a linear map beyond mean + c standard deviations of its magnitudes
    are cut back to that before it is decomposed; None: as they are. ``scale`` (own: 1) and ``profile``: see
    ``scaling``; ``exclude`` and ``include``: see ``linear_maps``. Commutative and combinable up to rounding. Not
    retractable: directions that were cut to make room are gone. Totals: ``count`` and ``weight_sum``.

    Raises:
        UsageError: an option has a value that it does not take.
    """
    shares, clip = _checked_shares(rank_share, rank, merge), _checked_clip(outlier_clip)
    scaling = checked_scaling("tsvm", scale, 1.0, profile)
    taken, spared = checked_patterns("tsvm", "include", include), checked_patterns("tsvm", "exclude", exclude)
    decomposed = partial(is_linear_map, include=taken, exclude=spared)

    def fold(spec: TensorSpec, statistics: Statistics, base: Tensor, incoming: Incoming) -> Folded:
        if not decomposed(spec):
            return fold_sum(statistics, base, incoming)
        return _fold_triplets(spec, statistics, incoming.delta, shares, clip)

    def export(spec: TensorSpec, statistics: Statistics, base: Tensor, totals: Mapping[str, float]) -> Tensor:
        if not decomposed(spec):
            return export_mean("tsvm", statistics, base, totals, scaling.of(spec))
        return scaling.publish(spec, base, _merged(spec, statistics, merge)) if statistics else base

    def combine(spec: TensorSpec, left: Statistics, right: Statistics, base: Tensor) -> Statistics:
        if not left or not right:
            return left or right
        return pooled(left, right, shares) if decomposed(spec) else combine_sums(left, right, base)

    return Method(
        name="tsvm",
        reference="Gargiulo et al. 2025, Task Singular Vectors, arXiv 2412.00081, algorithm 1",
        options={
            "rank_share": shares.share, "rank": rank, "merge": merge, "outlier_clip": clip,
            **scaling.options, "exclude": list(spared), "include": list(taken),
        },
        fold=fold,
        advance=advance_counts,
        export=export,
        elementwise=lambda spec: not decomposed(spec),
        working_bytes=lambda spec: _working_bytes(spec, shares, clip) if decomposed(spec) else SCRATCH_BYTES,
        export_bytes=lambda spec: _merging_bytes(spec, shares, merge) if decomposed(spec) else SCRATCH_BYTES,
        needs_totals=False,
        uses_totals=lambda spec: not decomposed(spec),
        exact=True,
        commutative=True,
        state_factor=lambda spec: _state_factor(spec, shares) if decomposed(spec) else 1.0,
        exports_whole=decomposed,
        combine=combine,
        pool=pool_counts,
        layouts=lambda spec: triplet_layouts(spec, shares) if decomposed(spec) else accumulator_layouts(spec),
    )  # fmt: skip


def _working_bytes(spec: TensorSpec, shares: Shares, clip: float | None) -> int:
    clipped = 0 if clip is None else spec.numel * (8 if spec.dtype is DType.F64 else 4)
    return clipped + folding_bytes(spec, shares)


def _checked_shares(rank_share: object, rank: object, merge: object) -> Shares:
    if merge not in MERGES:
        raise UsageError(f"tsvm: option 'merge' is {merge!r}", hint=f"The choices are: {', '.join(MERGES)}.")
    most = MOST_SHARE[str(merge)]
    if isinstance(rank_share, bool) or not isinstance(rank_share, (int, float)) or not 0.0 < rank_share <= most:
        raise UsageError(
            f"tsvm: option 'rank_share' is {rank_share!r}",
            hint=f"Give the share of directions to use, above 0 and at most {most:g}; 1 is the default."
            + ("" if merge == "agree" else f" With merge: agree it may be up to {MOST_SHARE['agree']:g}."),
        )
    if rank not in RANKS:
        raise UsageError(f"tsvm: option 'rank' is {rank!r}", hint=f"The choices are: {', '.join(RANKS)}.")
    if merge == "agree" and rank != "equal":
        raise UsageError(
            f"tsvm: option 'rank' is {rank!r} where 'merge' is 'agree'",
            hint="Leave 'rank' out: which triplets belong together shows in equal ranks only.",
        )
    return Shares(float(rank_share), rank == "adaptive")


def _checked_clip(outlier_clip: object) -> float | None:
    if outlier_clip is None:
        return None
    if isinstance(outlier_clip, bool) or not isinstance(outlier_clip, (int, float)) or not 0.0 <= outlier_clip < inf:
        raise UsageError(
            f"tsvm: option 'outlier_clip' is {outlier_clip!r}",
            hint="Give a number of standard deviations of at least 0, such as 3, or leave it out to clip nothing.",
        )
    return float(outlier_clip)


def clipped(delta: Tensor, deviations: float) -> Tensor:
    """``delta`` with magnitudes of at most their mean and so many standard deviations over all its elements: new."""
    mean = sum_of_magnitudes(delta) / delta.numel()
    spread = sqrt(max(0.0, squared_norm(delta) / delta.numel() - mean * mean))
    bound = mean + deviations * spread
    return delta.clamp(min=-bound, max=bound)


def _merged(spec: TensorSpec, statistics: Statistics, merge: str) -> Tensor:
    try:
        return agreed(spec.shape, statistics) if merge == "agree" else decorrelated(spec.shape, statistics)
    except LinAlgError as error:
        raise FatalError(
            f"the singular vectors of {spec.name!r} {list(spec.shape)} cannot be decomposed: {error}",
            hint="Run `mergenode verify`; when it finds no damage, add this tensor to `exclude`.",
        ) from error


def _fold_triplets(
    spec: TensorSpec, statistics: Statistics, delta: Tensor, shares: Shares, clip: float | None
) -> Folded:
    delta_sq = squared_norm(delta)
    before_sq, dot = sums_of_product(statistics, delta)
    if delta_sq == 0 or not isfinite(delta_sq):
        # Nothing to decompose. Sums that are not finite tell the caller, who refuses the contribution.
        sums = {"delta_sq": delta_sq, "kept_sq": delta_sq, "merge_sq": before_sq + delta_sq, "dot": dot}
        return Folded(statistics, sums)
    arrived = int(statistics["count"]) + 1 if statistics else 1
    try:
        newcomer = leading_triplets(delta if clip is None else clipped(delta, clip), shares, arrived)
    except LinAlgError as error:
        raise FatalError(
            f"the task vector of {spec.name!r} {list(spec.shape)} cannot be decomposed: {error}",
            hint="Add this tensor to `exclude`, or remove the contribution.",
        ) from error
    entered = float(newcomer["triplets"][0].double().square().sum())
    after = pooled(statistics, newcomer, shares) if statistics else newcomer
    sums = {"delta_sq": delta_sq, "kept_sq": entered, "merge_sq": sums_of_product(after)[0], "dot": dot}
    return Folded(after, sums, {"rank": float(newcomer["left"].shape[1]), "full_rank": float(min(delta.shape))})


def _merging_bytes(spec: TensorSpec, shares: Shares, merge: str) -> int:
    return agreeing_bytes(spec, shares) if merge == "agree" else decorrelating_bytes(spec)


def _state_factor(spec: TensorSpec, shares: Shares) -> float:
    return triplet_bytes(spec, shares) / (spec.numel * (8 if spec.dtype is DType.F64 else 4))
