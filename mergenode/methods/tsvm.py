"""TSVM: task singular vectors, decorrelated (Gargiulo et al. 2025, arXiv 2412.00081, algorithm 1).

Of each of n task vectors of a linear map, (d_out, d_in) with k = min(d_out, d_in), the leading floor(k / n) singular
triplets are kept. All left vectors side by side, and all right vectors, are replaced by the nearest orthonormal
matrices, and the merged task vector is their product with all singular values. Other tensors are averaged.

As a stream: with every arrival the share of each contribution shrinks, and what remains of it is a prefix of what was
kept, because triplets are sorted. So cutting the stored triplets to the new share gives what the batch would keep. With
more contributions than k (shares below one triplet) the strongest of the leading triplets stay, again a choice that can
be made on the way. n counts the contributions that move the tensor.

Deviations from the published code: triplets in the rounding noise are left out, not padded with arbitrary directions;
a contribution that leaves a tensor as it is takes no share of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import isfinite

import torch
from numpy.linalg import LinAlgError
from torch import Tensor

from mergenode.errors import FatalError, UsageError
from mergenode.maths.norms import inner, squared_norm
from mergenode.maths.polar import polar_bytes, polar_factor
from mergenode.maths.rank import numerical_rank
from mergenode.maths.subspaces import leading_subspaces
from mergenode.methods.accumulator import SCRATCH_BYTES, advance_counts, combine_sums, fold_sum, pool_counts
from mergenode.methods.contract import Folded, Incoming, Method, Statistics
from mergenode.methods.linear_maps import DEFAULT_EXCLUDE, checked_patterns, is_linear_map
from mergenode.methods.mean import export_mean
from mergenode.methods.scaling import OWN, checked_scaling
from mergenode.types import DType, TensorSpec


def tsvm(
    *,
    rank_share: float = 1.0,
    scale: float | str = OWN,
    profile: Mapping[str, float] | None = None,
    exclude: Sequence[str] = DEFAULT_EXCLUDE,
    include: Sequence[str] = (),
) -> Method:
    """TSVM whose n contributions keep floor(rank_share k / n) triplets each.

    ``scale`` (own: 1) and ``profile``: see ``scaling``; ``exclude`` and ``include``: see ``linear_maps``. Commutative
    and combinable up to rounding. Not retractable: directions that were cut to make room are gone. Totals: ``count``
    and ``weight_sum``.

    Raises:
        UsageError: an option has a value that it does not take.
    """
    if isinstance(rank_share, bool) or not isinstance(rank_share, (int, float)) or not 0.0 < rank_share <= 1.0:
        raise UsageError(
            f"tsvm: option 'rank_share' is {rank_share!r}",
            hint="Give the share of directions to use, above 0 and at most 1; 1 is the default.",
        )
    share = float(rank_share)
    scaling = checked_scaling("tsvm", scale, 1.0, profile)
    taken, spared = checked_patterns("tsvm", "include", include), checked_patterns("tsvm", "exclude", exclude)
    decomposed = partial(is_linear_map, include=taken, exclude=spared)

    def fold(spec: TensorSpec, statistics: Statistics, base: Tensor, incoming: Incoming) -> Folded:
        if not decomposed(spec):
            return fold_sum(statistics, base, incoming)
        return _fold_triplets(spec, statistics, incoming.delta, share)

    def export(spec: TensorSpec, statistics: Statistics, base: Tensor, totals: Mapping[str, float]) -> Tensor:
        if not decomposed(spec):
            return export_mean("tsvm", statistics, base, totals, scaling.of(spec))
        return scaling.publish(spec, base, decorrelated(spec, statistics)) if statistics else base

    def combine(spec: TensorSpec, left: Statistics, right: Statistics, base: Tensor) -> Statistics:
        if not left or not right:
            return left or right
        return _pooled(left, right, share) if decomposed(spec) else combine_sums(left, right, base)

    return Method(
        name="tsvm",
        reference="Gargiulo et al. 2025, Task Singular Vectors, arXiv 2412.00081, algorithm 1",
        options={"rank_share": share, **scaling.options, "exclude": list(spared), "include": list(taken)},
        fold=fold,
        advance=advance_counts,
        export=export,
        elementwise=lambda spec: not decomposed(spec),
        working_bytes=lambda spec: _working_bytes(spec) if decomposed(spec) else SCRATCH_BYTES,
        needs_totals=False,
        uses_totals=lambda spec: not decomposed(spec),
        exact=True,
        commutative=True,
        state_factor=lambda spec: _state_factor(spec, share) if decomposed(spec) else 1.0,
        export_elementwise=False,
        combine=combine,
        pool=pool_counts,
    )


def running_product(statistics: Statistics) -> Tensor:
    """The sum of all stored triplets, (d_out, d_in): U diag(s) V^T before anything is decorrelated."""
    return (statistics["left"] * statistics["triplets"][0]) @ statistics["right"].mT


def decorrelated(spec: TensorSpec, statistics: Statistics) -> Tensor:
    """The merged task vector, a new tensor (d_out, d_in): polar(U) diag(s) polar(V)^T.

    Raises:
        FatalError: the stored vectors cannot be decomposed.
    """
    left, values, right = statistics["left"], statistics["triplets"][0], statistics["right"]
    if not len(values):
        return left.new_zeros(spec.shape)
    try:
        return (polar_factor(left).factor * values) @ polar_factor(right).factor.mT
    except LinAlgError as error:
        raise FatalError(
            f"the singular vectors of {spec.name!r} {list(spec.shape)} cannot be decomposed: {error}",
            hint="Run `mergenode verify`; when it finds no damage, add this tensor to `exclude`.",
        ) from error


def _fold_triplets(spec: TensorSpec, statistics: Statistics, delta: Tensor, share: float) -> Folded:
    delta_sq = squared_norm(delta)
    before = running_product(statistics) if statistics else None
    dot = inner(delta, before) if before is not None else 0.0
    merge_sq = squared_norm(before) if before is not None else 0.0
    if delta_sq == 0 or not isfinite(delta_sq):
        # Nothing to decompose. Sums that are not finite tell the caller, who refuses the contribution.
        sums = {"delta_sq": delta_sq, "kept_sq": delta_sq, "merge_sq": merge_sq + delta_sq, "dot": dot}
        return Folded(statistics, sums)
    arrived = int(statistics["count"]) if statistics else 0
    try:
        newcomer = _leading_triplets(delta, max(1, _rank(delta.shape, share, arrived + 1)))
    except LinAlgError as error:
        raise FatalError(
            f"the task vector of {spec.name!r} {list(spec.shape)} cannot be decomposed: {error}",
            hint="Add this tensor to `exclude`, or remove the contribution.",
        ) from error
    entered = float(newcomer["triplets"][0].double().square().sum())
    after = _pooled(statistics, newcomer, share) if statistics else newcomer
    sums = {"delta_sq": delta_sq, "kept_sq": entered, "merge_sq": squared_norm(running_product(after)), "dot": dot}
    full = float(min(delta.shape))
    return Folded(after, sums, {"rank": float(newcomer["left"].shape[1]), "full_rank": full})


def _leading_triplets(delta: Tensor, rank: int) -> Statistics:
    """Up to ``rank`` leading triplets of one task vector; fewer when the rest is rounding noise."""
    wide = delta.shape[0] < delta.shape[1]
    tall = delta.mT if wide else delta
    found = leading_subspaces(tall, lambda values: min(rank, numerical_rank(values, tall.shape, tall.dtype)))
    left, right = (found.right, found.left) if wide else (found.left, found.right)
    values = found.values[: left.shape[1]].to(device=delta.device, dtype=delta.dtype)
    place = torch.arange(len(values), device=delta.device, dtype=delta.dtype)
    count = torch.ones(1, device=delta.device, dtype=delta.dtype)
    return {"left": left, "right": right, "triplets": torch.stack([values, place]), "count": count}


def _rank(shape: torch.Size, share: float, contributions: int) -> int:
    return int(share * min(shape)) // contributions


def _pooled(left: Statistics, right: Statistics, share: float) -> Statistics:
    """The triplets of both, cut to what each contribution may keep among all of them."""
    count = left["count"] + right["count"]
    triplets = torch.cat([left["triplets"], right["triplets"]], dim=1)
    shape = torch.Size((left["left"].shape[0], left["right"].shape[0]))
    rank = _rank(shape, share, int(count))
    if rank:
        chosen = torch.nonzero(triplets[1] < rank).view(-1)
    else:
        leading = torch.nonzero(triplets[1] == 0).view(-1)
        strongest = triplets[0, leading].argsort(descending=True, stable=True)
        chosen = leading[strongest[: max(1, int(share * min(shape)))]].sort().values
    vectors = {side: torch.cat([left[side], right[side]], dim=1)[:, chosen] for side in ("left", "right")}
    return {**vectors, "triplets": triplets[:, chosen], "count": count}


def _state_factor(spec: TensorSpec, share: float) -> float:
    m, n = spec.shape
    rank = max(1, int(share * min(m, n)))
    return (rank * (m + n + 2) + 1) / spec.numel


def _working_bytes(spec: TensorSpec) -> int:
    """Newcomer and pooled factors with their copies, one product, and what a decomposition takes."""
    m, n = spec.shape
    itemsize = 8 if spec.dtype is DType.F64 else 4
    factors = itemsize * min(m, n) * (m + n + 2)
    return 2 * factors + 2 * spec.numel * itemsize + polar_bytes(m, n, itemsize)
