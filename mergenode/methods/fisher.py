"""Fisher merging: every entry of every contribution counts as much as its data says it matters.

Matena and Raffel 2022, arXiv 2111.09832, equation 4: ``theta* = sum w_i F_i theta_i / sum w_i F_i`` with diagonal
Fisher matrices F_i. Both sums stream; with task vectors in place of weights the result is the same, because the base
cancels. F_i comes with the contribution, in a side-car.

Deviations from the published code:

- The base is no contribution of its own.
- ``normalise`` divides F_i by its root mean square over the whole model instead of its norm: the same weights w_i up to
  a common factor, and Fishers whose size can be compared with ``floor``. The number comes from the side-car (its
  metadata, or measured when it is opened), because a slice of a tensor cannot know it.
- ``floor`` is added to every F_i, not taken as a minimum of the first one: where nobody's data says anything the merge
  is the mean of those that mention the tensor, and sums stay sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

import torch
from torch import Tensor

from mergenode.errors import UsageError
from mergenode.maths.norms import CHUNK, chunks, exact_total
from mergenode.methods.accumulator import advance_counts, pool_counts, withdraw_counts
from mergenode.methods.contract import Folded, Incoming, Method, Statistics
from mergenode.methods.scaling import OWN, checked_scaling
from mergenode.types import TensorSpec

_ROUNDING = 4.0
"""Of a weight that was taken back, this many units in the last place are left: no more than rounding."""


def fisher(
    *, floor: float = 1e-3, normalise: bool = True, scale: float | str = OWN, profile: Mapping[str, float] | None = None
) -> Method:
    """The method with ``floor`` in units of a contribution's typical Fisher (of F itself without ``normalise``).

    Statistics: ``weights`` = sum w F, and ``weighted`` = sum w F T or, of a single contribution, ``first``, its own
    weights, which come back bit for bit. Commutative, combinable, retractable up to fp32 rounding: what is left after a
    retraction is known to one unit in the last place of what was taken away, so entries of which less is left count as
    nobody's. A tensor without Fisher is averaged over those that mention it. ``scale`` (own: 1) and ``profile``: see
    ``scaling``.

    Raises:
        UsageError: an option has a value that it does not take.
    """
    if isinstance(floor, bool) or not isinstance(floor, (int, float)) or not 0.0 < floor < inf:
        raise UsageError(
            f"fisher: option 'floor' is {floor!r}", hint="Give a finite number above 0; 0.001 is the default."
        )
    if not isinstance(normalise, bool):
        raise UsageError(f"fisher: option 'normalise' is {normalise!r}", hint="Give true or false.")
    least = float(floor)
    scaling = checked_scaling("fisher", scale, 1.0, profile)

    def export(spec: TensorSpec, statistics: Statistics, base: Tensor, totals: Mapping[str, float]) -> Tensor:
        if not statistics:
            return base
        if "first" in statistics and scaling.of(spec) == 1.0:
            return statistics["first"]
        return scaling.publish(spec, base, weighted_mean(statistics, base))

    def importance(incoming: Incoming) -> Tensor | float:
        """F of a contribution, element by element; a number where its side-car says nothing."""
        found = incoming.side.get("fisher")
        if found is None:
            return least
        typical = float(incoming.side["fisher_rms"]) if normalise and "fisher_rms" in incoming.side else 1.0
        return found.mul(1.0 / typical if typical > 0 else 0.0).add_(least)

    return Method(
        name="fisher",
        reference="Matena and Raffel 2022, Merging models with Fisher-weighted averaging, arXiv 2111.09832, eq. 4",
        options={"floor": least, "normalise": normalise, **scaling.options},
        fold=lambda spec, statistics, base, incoming: _add(statistics, base, incoming, importance(incoming), 1),
        advance=advance_counts,
        export=export,
        elementwise=lambda spec: True,
        working_bytes=lambda spec: 12 * 8 * CHUNK,
        needs_totals=False,
        ignores_untouched=True,
        uses_totals=lambda spec: False,
        exact=True,
        commutative=True,
        state_factor=lambda spec: 2.0,
        needs=frozenset({"fisher"}),
        sides=lambda spec: frozenset({"fisher"}),
        combine=_combine,
        retract=lambda spec, statistics, base, incoming: _add(statistics, base, incoming, importance(incoming), -1),
        withdraw=withdraw_counts,
        pool=pool_counts,
    )


def weighted_mean(statistics: Statistics, base: Tensor) -> Tensor:
    """sum w F T / sum w F, a new tensor; 0 where nothing was folded."""
    if "first" in statistics:
        return statistics["first"] - base
    found = statistics["weighted"] / statistics["weights"]
    return found.masked_fill_(statistics["weights"] <= 0, 0.0)


def _weighted(statistics: Statistics, base: Tensor) -> Tensor:
    """sum w F T; may be a statistic itself."""
    if "first" in statistics:
        return (statistics["first"] - base).mul_(statistics["weights"])
    return statistics["weighted"]


def _combine(spec: TensorSpec, left: Statistics, right: Statistics, base: Tensor) -> Statistics:
    if not left or not right:
        return left or right
    weights = left["weights"] + right["weights"]
    return {"weighted": _weighted(left, base) + _weighted(right, base), "weights": weights}


def _add(statistics: Statistics, base: Tensor, incoming: Incoming, importance: Tensor | float, sign: int) -> Folded:
    """Add (sign 1) or take away (sign -1) a contribution, chunk by chunk. Tensors of the result are new."""
    delta, flat_base = incoming.delta.reshape(-1), base.reshape(-1)
    fishers = importance if isinstance(importance, Tensor) else delta.new_tensor(importance).expand(delta.shape)
    fishers = fishers.reshape(-1)
    tuned = incoming.tuned.reshape(-1) if incoming.tuned is not None and not statistics else None
    before = {name: tensor.reshape(-1) for name, tensor in statistics.items()}
    after = {name: torch.empty_like(delta) for name in ("weighted" if tuned is None else "first", "weights")}
    parts: dict[str, list[float]] = {"delta_sq": [], "merge_sq": [], "dot": []}
    for part in chunks(delta.numel()):
        here, there = ({name: tensor[part] for name, tensor in side.items()} for side in (before, after))
        if tuned is not None:
            there["first"].copy_(tuned[part])
            there["weights"].copy_(fishers[part])
        else:
            arriving = (delta[part], fishers[part], sign * incoming.weight, sign)
            _count(here, there, flat_base[part], arriving)
        _look(parts, delta[part], here, there, flat_base[part], observe=incoming.observe)
    sums = {name: exact_total(found) for name, found in parts.items() if found}
    sums["kept_sq"] = sums.setdefault("delta_sq", 0.0)
    if incoming.observe:
        sums = {"merge_sq": 0.0, "dot": 0.0, **sums}
    return Folded({name: tensor.view(incoming.delta.shape) for name, tensor in after.items()}, sums)


def _count(before: Statistics, after: Statistics, base: Tensor, arriving: tuple[Tensor, Tensor, float, int]) -> None:
    """One chunk of both sums, written into ``after``. ``arriving``: w T, F, signed w, sign."""
    delta, fishers, weight, sign = arriving
    if not before:
        torch.mul(delta, fishers, out=after["weighted"]).mul_(sign)
        torch.mul(fishers, weight, out=after["weights"])
        return
    torch.addcmul(_weighted(before, base), delta, fishers, value=sign, out=after["weighted"])
    torch.add(before["weights"], fishers, alpha=weight, out=after["weights"])
    if sign < 0:
        rounding = before["weights"] * (_ROUNDING * torch.finfo(delta.dtype).eps)
        gone = after["weights"] <= rounding
        for tensor in after.values():
            tensor.masked_fill_(gone, 0.0)


def _look(
    parts: dict[str, list[float]], delta: Tensor, before: Statistics, after: Statistics, base: Tensor, *, observe: bool
) -> None:
    """Squared norms of one chunk, in fp64, with the merged task vector as the running merge."""
    if not observe:
        parts["delta_sq"].append(torch.dot(delta, delta).item())
        return
    moved, merged = delta.double(), weighted_mean(after, base).double()
    parts["delta_sq"].append(torch.dot(moved, moved).item())
    parts["merge_sq"].append(torch.dot(merged, merged).item())
    if before:
        parts["dot"].append(torch.dot(moved, weighted_mean(before, base).double()).item())
