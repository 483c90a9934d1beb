"""OPCM: orthogonal-projection continual merging (Tang et al. 2025, arXiv 2501.09522, algorithm 1).

The published update telescopes. With S the *unscaled* accumulator, tau_t the t-th task vector and n_t =
||tau_t|| over the whole model,

    S_t = S_(t-1) + Proj_(S_(t-1))(tau_t),        merged = base + S_t * mean(n_1 .. n_t) / ||S_t||,

because singular vectors do not change under scaling. So the state is one tensor per weight and three scalars.

Deviations from the published code: parameters that sit directly on a container module are summed like any
other (the code forgets them and lets them decay), embeddings are not projected, a zero accumulator lets
everything pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from math import isfinite, sqrt

from numpy.linalg import LinAlgError
from torch import Tensor

from mergenode.errors import FatalError, UsageError
from mergenode.maths.norms import inner, squared_norm
from mergenode.maths.projection import Variant, project
from mergenode.maths.projection import working_bytes as projection_bytes
from mergenode.methods.accumulator import SCRATCH_BYTES, export_scaled, fold_sum, running_sum
from mergenode.methods.contract import Folded, Incoming, Method, Statistics, Sums
from mergenode.methods.linear_maps import DEFAULT_EXCLUDE, checked_patterns, is_linear_map
from mergenode.types import DType, TensorSpec


def opcm(
    *, alpha: float = 0.5, variant: str = "block", exclude: Sequence[str] = DEFAULT_EXCLUDE, include: Sequence[str] = ()
) -> Method:
    """OPCM with share ``alpha`` of the spectrum protected, in one of four variants (see
    ``maths.projection``).

    ``exclude`` and ``include`` are name patterns of weights that are (not) projected, see ``linear_maps``.
    Order of arrival matters; nothing can be combined or retracted. Totals: ``count``, ``weight_sum``,
    ``norm_sum`` (sum of whole-model task-vector norms), ``merge_sq`` (||S||^2 over the whole model).

    Raises:
        UsageError: an option has a value that it does not take.
    """
    share, kind = _checked_alpha(alpha), _checked_variant(variant)
    taken, spared = checked_patterns("opcm", "include", include), checked_patterns("opcm", "exclude", exclude)

    projected = partial(is_linear_map, include=taken, exclude=spared)

    def fold(spec: TensorSpec, statistics: Statistics, base: Tensor, incoming: Incoming) -> Folded:
        if not projected(spec):
            return fold_sum(statistics, base, incoming)
        if not statistics:
            entered = fold_sum(statistics, base, incoming)
            return entered._replace(observed=_observed(spec, rank=0, effective_rank=0.0, fallback=False))
        return _fold_projected(spec, running_sum(statistics, base), incoming.delta, share, kind)

    return Method(
        name="opcm",
        reference="Tang et al. 2025, arXiv 2501.09522, algorithm 1",
        options={"alpha": share, "variant": kind.value, "exclude": list(spared), "include": list(taken)},
        fold=fold,
        advance=_advance,
        export=_export,
        elementwise=lambda spec: not projected(spec),
        working_bytes=partial(_working_bytes, projected=projected),
        needs_totals=True,
        own_scale=_own_scale,
        exact=True,
        commutative=False,
        state_factor=lambda spec: 1.0,
    )


def _fold_projected(spec: TensorSpec, before: Tensor, delta: Tensor, alpha: float, variant: Variant) -> Folded:
    before_sq = squared_norm(before)
    if not isfinite(before_sq):
        raise FatalError(
            f"the running sum of {spec.name!r} is not finite",
            hint="The statistics are damaged: run `mergenode verify`, then restore or replay the merge.",
        )
    sums = {"delta_sq": squared_norm(delta), "dot": inner(delta, before)}
    if not isfinite(sums["delta_sq"]):
        # Nothing sensible can be projected; the sums tell the caller, who refuses the contribution.
        not_finite = sums["delta_sq"]
        return Folded({"sum": before + delta}, {**sums, "kept_sq": not_finite, "merge_sq": not_finite})
    try:
        found = project(before, delta, alpha=alpha, variant=variant)
    except LinAlgError as error:
        raise FatalError(
            f"the running sum of {spec.name!r} {list(spec.shape)} cannot be decomposed: {error}",
            hint="Run `mergenode verify`; when it finds no damage, add this tensor to `exclude`.",
        ) from error
    sums["kept_sq"] = squared_norm(found.kept)
    after = found.kept.add_(before)
    sums["merge_sq"] = squared_norm(after)
    observed = _observed(spec, rank=found.rank, effective_rank=found.effective_rank, fallback=found.fallback)
    return Folded({"sum": after}, sums, observed)


def _observed(spec: TensorSpec, *, rank: int, effective_rank: float, fallback: bool) -> Mapping[str, float]:
    return {
        "rank": float(rank),
        "effective_rank": effective_rank,
        "full_rank": float(min(spec.shape)),
        "fallback": float(fallback),
    }


def _advance(totals: Mapping[str, float], sums: Sums, weight: float) -> Mapping[str, float]:
    return {
        "count": totals.get("count", 0.0) + 1.0,
        "weight_sum": totals.get("weight_sum", 0.0) + weight,
        "norm_sum": totals.get("norm_sum", 0.0) + sqrt(sums["delta_sq"]),
        "merge_sq": sums["merge_sq"],
    }


def _export(spec: TensorSpec, statistics: Statistics, base: Tensor, totals: Mapping[str, float]) -> Tensor:
    if not statistics:
        return base
    if totals["count"] == 1:
        return export_scaled(statistics, base, 1.0, keep_first=True)
    if totals["merge_sq"] == 0:
        return base
    return export_scaled(statistics, base, _own_scale(totals), keep_first=False)


def _own_scale(totals: Mapping[str, float]) -> float:
    """mean(n_1 .. n_t) / ||S_t||; 1 for a single contribution, and where there is nothing to scale."""
    if totals.get("count", 0.0) <= 1 or totals["merge_sq"] == 0:
        return 1.0
    return totals["norm_sum"] / totals["count"] / sqrt(totals["merge_sq"])


def _working_bytes(spec: TensorSpec, projected: Callable[[TensorSpec], bool]) -> int:
    if not projected(spec):
        return SCRATCH_BYTES
    itemsize = 8 if spec.dtype is DType.F64 else 4
    # The running sum, while the statistics still hold the first contribution's weights.
    recovered = spec.numel * itemsize
    return recovered + projection_bytes(spec.shape[0], spec.shape[1], itemsize)


def _checked_alpha(alpha: float) -> float:
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0.0 <= alpha < 1.0:
        raise UsageError(
            f"opcm: option 'alpha' is {alpha!r}",
            hint="Give a number from 0 (protect nothing) to below 1; 0.5 is the default.",
        )
    return float(alpha)


def _checked_variant(variant: str) -> Variant:
    names = [member.value for member in Variant]
    if variant in names:
        return Variant(variant)
    close = get_close_matches(str(variant), names, n=1)
    hint = f"Did you mean {close[0]!r}?" if close else f"The variants are: {', '.join(names)}."
    raise UsageError(f"opcm: option 'variant' is {variant!r}", hint=hint)
