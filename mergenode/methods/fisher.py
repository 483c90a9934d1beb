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
from mergenode.maths.norms import CHUNK, chunks, exact_total, shown_inner, wide_buffer, wide_square
from mergenode.methods.accumulator import advance_counts, pool_counts, withdraw_counts
from mergenode.methods.contract import Folded, Incoming, Method, Statistics
from mergenode.methods.layouts import Layout, Stored
from mergenode.methods.scaling import OWN, checked_scaling
from mergenode.types import TensorSpec

_TINY = 1e-37
"""Below any weight: where nobody weighs anything the quotient is 0."""

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

    def inverse(incoming: Incoming) -> float:
        """What a contribution's F is multiplied with."""
        typical = float(incoming.side["fisher_rms"]) if normalise and "fisher_rms" in incoming.side else 1.0
        return 1.0 / typical if typical > 0 else 0.0

    def fold(spec: TensorSpec, statistics: Statistics, base: Tensor, incoming: Incoming) -> Folded:
        return _Fold(statistics, base, incoming, (least, inverse(incoming), 1)).run()

    def retract(spec: TensorSpec, statistics: Statistics, base: Tensor, incoming: Incoming) -> Folded:
        return _Fold(statistics, base, incoming, (least, inverse(incoming), -1)).run()

    return Method(
        name="fisher",
        reference="Matena and Raffel 2022, Merging models with Fisher-weighted averaging, arXiv 2111.09832, eq. 4",
        options={"floor": least, "normalise": normalise, **scaling.options},
        fold=fold,
        advance=advance_counts,
        export=export,
        elementwise=lambda spec: True,
        working_bytes=lambda spec: 5 * 8 * CHUNK,
        needs_totals=False,
        ignores_untouched=True,
        uses_totals=lambda spec: False,
        exact=True,
        commutative=True,
        state_factor=lambda spec: 2.0,
        needs=frozenset({"fisher"}),
        sides=lambda spec: frozenset({"fisher"}),
        combine=_combine,
        retract=retract,
        withdraw=withdraw_counts,
        pool=pool_counts,
        layouts=_layouts,
    )


def _layouts(spec: TensorSpec) -> tuple[Layout, ...]:
    weights = {"weights": Stored(spec.shape, least=0.0)}
    return ({**weights, "first": Stored(spec.shape)}, {**weights, "weighted": Stored(spec.shape)})


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


class _Fold:
    """One contribution that enters (sign 1) or leaves (sign -1), chunk by chunk in scratch that stays in the cache."""

    def __init__(self, statistics: Statistics, base: Tensor, incoming: Incoming, how: tuple[float, float, int]) -> None:
        """``how``: floor, factor of F, sign."""
        self.incoming, self.base, self.delta = incoming, base.reshape(-1), incoming.delta.reshape(-1)
        found = incoming.side.get("fisher")
        self.fishers = found.reshape(-1) if found is not None else None
        self.floor, self.inverse, self.sign = incoming.delta.new_tensor(how[0]), how[1], how[2]
        self.tuned = incoming.tuned.reshape(-1) if incoming.tuned is not None and not statistics else None
        self.before = {name: tensor.reshape(-1) for name, tensor in statistics.items()}
        names = ("weighted" if self.tuned is None else "first", "weights")
        self.after = {name: torch.empty_like(self.delta) for name in names}
        self.scratch = [torch.empty_like(self.delta[:CHUNK]) for _ in range(3)]
        self.wide = wide_buffer(self.delta.numel(), self.delta.device)
        self.sums: dict[str, list[float]] = {"delta_sq": [], "merge_sq": [], "dot": []}

    def run(self) -> Folded:
        for part in chunks(self.delta.numel()):
            self._chunk(part)
        sums = {name: exact_total(found) for name, found in self.sums.items() if found or self.incoming.observe}
        sums["kept_sq"] = sums.setdefault("delta_sq", 0.0)
        shape = self.incoming.delta.shape
        return Folded({name: tensor.view(shape) for name, tensor in self.after.items()}, sums)

    def _chunk(self, part: slice) -> None:
        delta, weights, sign = self.delta[part], self.after["weights"][part], self.sign
        importance, merged, divisor = (tensor[: len(delta)] for tensor in self.scratch)
        if self.fishers is None:
            importance.fill_(self.floor)
        else:
            torch.add(self.floor, self.fishers[part], alpha=self.inverse, out=importance)
        before = {name: tensor[part] for name, tensor in self.before.items()}
        if self.incoming.observe and before:
            torch.div(
                _weighted(before, self.base[part]), torch.clamp(before["weights"], min=_TINY, out=divisor), out=merged
            )
            self.sums["dot"].append(shown_inner(delta, merged))
        if self.tuned is not None:
            self.after["first"][part].copy_(self.tuned[part])
            weights.copy_(importance)
            merged.copy_(delta)
        else:
            weighted = self.after["weighted"][part]
            if before:
                torch.addcmul(_weighted(before, self.base[part]), delta, importance, value=sign, out=weighted)
                torch.add(before["weights"], importance, alpha=sign * self.incoming.weight, out=weights)
            else:
                torch.mul(delta, importance, out=weighted)
                torch.mul(importance, self.incoming.weight, out=weights)
            if sign < 0:
                _forget_rounding(before["weights"], weighted, weights)
            if self.incoming.observe:
                torch.div(weighted, torch.clamp(weights, min=_TINY, out=divisor), out=merged)
        if self.incoming.observe:
            self.sums["delta_sq"].append(wide_square(delta, self.wide))
            self.sums["merge_sq"].append(shown_inner(merged, merged))
        else:
            self.sums["delta_sq"].append(shown_inner(delta, delta))


def _forget_rounding(before: Tensor, weighted: Tensor, weights: Tensor) -> None:
    """What subtraction leaves of a weight that was all there was is no weight. In place."""
    gone = weights <= before * (_ROUNDING * torch.finfo(weights.dtype).eps)
    weighted.masked_fill_(gone, 0.0)
    weights.masked_fill_(gone, 0.0)
