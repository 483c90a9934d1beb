"""WIDEN: weights of contributions by how much, and how far aside, each moved an input of a matrix.

Yu et al. 2024, arXiv 2408.03092, section 3, by the published code. Every column w_j of a matrix (an input) is split
into magnitude and direction. Within one contribution the columns are ranked by | |w_j| - |w0_j| | and by
1 - cos(w_j, w0_j); over the contributions a softmax of the ranks gives each its weight, once for magnitudes and once
for directions, except that a rank above ``threshold`` times the contribution's mean rank gives the weight
``calibration`` instead. The merged column is w0_j + sum weight_i T_ij with the mean of the two weights. Softmax
numerators and denominators are sums:

    A = sum e^rank T over the ranks that are not above,  Z = sum e^rank,  B = sum T over those that are
    merged = (A_m / Z_m + A_d / Z_d + calibration (B_m + B_d)) / 2

Embeddings are split by rows (one per word), vectors element by element, where there is only a magnitude.

Deviations from the published code:

- Equal values share the lowest of their ranks, so that columns which nobody touched weigh nothing in particular.
- 1 - cos comes from the Gram determinant of w0_j and T_j, which keeps its digits when the change is small.
- A contribution of another weight than 1 enters as a task vector of that size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, prod

import torch
from torch import Tensor

from mergenode.errors import UsageError
from mergenode.maths.change_ranks import Pieces, changes, relative_ranks
from mergenode.maths.norms import CHUNK, exact_total, inner, squared_norm
from mergenode.methods.accumulator import advance_counts, pool_counts, withdraw_counts
from mergenode.methods.contract import Folded, Incoming, Method, Statistics
from mergenode.methods.layouts import Layout, Stored
from mergenode.methods.linear_maps import DEFAULT_EXCLUDE, checked_patterns, is_linear_map
from mergenode.methods.scaling import OWN, Scaling, checked_scaling
from mergenode.types import DType, TensorSpec

KINDS = ("magnitude", "direction")
"""What pieces are ranked by, and the names of A in the statistics; single elements have the magnitude alone."""

_NOBODY = 0.5
"""Every contribution adds at least 1 to every sum of e^rank: with less than this none is left."""


def widen(
    *,
    threshold: float = 1.0,
    calibration: float = 1.0,
    scale: float | str = OWN,
    profile: Mapping[str, float] | None = None,
    exclude: Sequence[str] = DEFAULT_EXCLUDE,
    include: Sequence[str] = (),
) -> Method:
    """The method with the published ``threshold`` and ``calibration``, both 1.

    ``exclude``, ``include``: which matrices are embeddings, ranked by rows. ``scale`` (own: 1) and ``profile``: see
    ``scaling``. Commutative, combinable and retractable up to fp32 rounding of the sums: ranks are computed again.
    Statistics: ``first`` after one contribution, which comes back bit for bit; then A per kind, ``above`` = B and
    ``softmax`` = Z, one row per kind.

    Raises:
        UsageError: an option has a value that it does not take.
    """
    for option, value, least in (("threshold", threshold, 0.0), ("calibration", calibration, 0.0)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < inf:
            raise UsageError(f"widen: option {option!r} is {value!r}", hint="Give a finite number of at least 0.")
    scaling = checked_scaling("widen", scale, 1.0, profile)
    taken, spared = checked_patterns("widen", "include", include), checked_patterns("widen", "exclude", exclude)
    chosen = _Widen(float(threshold), float(calibration), scaling, taken, spared)
    return Method(
        name="widen",
        reference="Yu et al. 2024, Extend model merging via weight disentanglement, arXiv 2408.03092",
        options=chosen.options,
        fold=chosen.fold,
        advance=advance_counts,
        export=chosen.export,
        elementwise=lambda spec: False,
        working_bytes=lambda spec: _working_bytes(spec, chosen.pieces(spec)),
        needs_totals=False,
        ignores_untouched=True,
        uses_totals=lambda spec: False,
        exact=True,
        commutative=True,
        state_factor=lambda spec: _state_factor(chosen.pieces(spec)),
        exports_whole=lambda spec: True,
        combine=chosen.combine,
        retract=chosen.retract,
        withdraw=withdraw_counts,
        pool=pool_counts,
        layouts=chosen.layouts,
    )


@dataclass(frozen=True, slots=True)
class _Widen:
    """The validated options, and what follows from them."""

    threshold: float
    calibration: float
    scaling: Scaling
    include: tuple[str, ...]
    exclude: tuple[str, ...]

    @property
    def options(self) -> Mapping[str, object]:
        own = {"threshold": self.threshold, "calibration": self.calibration}
        return {**own, **self.scaling.options, "exclude": list(self.exclude), "include": list(self.include)}

    def pieces(self, spec: TensorSpec) -> Pieces:
        return _cut(spec, by_rows=len(spec.shape) == 2 and not is_linear_map(spec, self.include, self.exclude))

    def layouts(self, spec: TensorSpec) -> tuple[Layout, ...]:
        pieces = self.pieces(spec)
        kinds = _kinds(pieces)
        sums = {name: Stored(spec.shape) for name in (*kinds, "above")}
        softmax = Stored((len(kinds), pieces.number), least=_NOBODY)
        return ({"first": Stored(spec.shape)}, {**sums, "softmax": softmax})

    def fold(self, spec: TensorSpec, statistics: Statistics, base: Tensor, incoming: Incoming) -> Folded:
        return _add(self.pieces(spec), statistics, base, incoming, (1, self.threshold, self.calibration))

    def retract(self, spec: TensorSpec, statistics: Statistics, base: Tensor, incoming: Incoming) -> Folded:
        return _add(self.pieces(spec), statistics, base, incoming, (-1, self.threshold, self.calibration))

    def combine(self, spec: TensorSpec, left: Statistics, right: Statistics, base: Tensor) -> Statistics:
        if not left or not right:
            return left or right
        one, other = (_sums(self.pieces(spec), side, base, self.threshold) for side in (left, right))
        return _shaped({name: one[name] + other[name] for name in one}, base)

    def export(self, spec: TensorSpec, statistics: Statistics, base: Tensor, totals: Mapping[str, float]) -> Tensor:
        if not statistics:
            return base
        if "first" in statistics and self.scaling.of(spec) == self.calibration == 1.0:
            return statistics["first"]
        pieces = self.pieces(spec)
        sums = _sums(pieces, statistics, base, self.threshold)
        merged = torch.empty((pieces.rows, pieces.columns), dtype=base.dtype, device=base.device)
        for block in pieces.blocks():
            merged[block] = _merged(pieces, sums, block, self.calibration)
        return self.scaling.publish(spec, base, merged.view(base.shape))


def _cut(spec: TensorSpec, *, by_rows: bool) -> Pieces:
    """Kernels are flattened behind their first side; vectors are one row, so that every element is a column."""
    if sum(side != 1 for side in spec.shape) < 2:
        return Pieces(1, spec.numel, False)
    return Pieces(spec.shape[0], prod(spec.shape[1:]), by_rows)


def _kinds(pieces: Pieces) -> tuple[str, ...]:
    return KINDS[:1] if pieces.single else KINDS


def _state_factor(pieces: Pieces) -> float:
    kinds, numel = len(_kinds(pieces)), pieces.rows * pieces.columns
    return 1.0 + kinds + kinds * pieces.number / numel if numel else 1.0 + kinds


def _working_bytes(spec: TensorSpec, pieces: Pieces) -> int:
    """What a fold adds to inputs and outputs: the sums of a first contribution, ranks, blocks of rows in fp64."""
    itemsize = 8 if spec.dtype is DType.F64 else 4
    first = int(_state_factor(pieces) * itemsize * spec.numel)
    block = max(CHUNK, pieces.columns)
    return first + 24 * 8 * pieces.number + 8 * 8 * block


def _scores(pieces: Pieces, base: Tensor, delta: Tensor, limit: float) -> dict[str, tuple[Tensor, Tensor]]:
    """Per kind e^rank of every piece, and which ranks are not above the limit; accumulator dtype and bool."""
    found = {}
    for kind, change in zip(_kinds(pieces), changes(pieces, base, delta), strict=False):
        ranks = relative_ranks(change)
        below = ranks <= limit * ranks.mean() if len(ranks) else ranks.bool()
        found[kind] = (ranks.exp().to(delta.dtype), below)
    return found


def _enter(
    pieces: Pieces, sums: Statistics, delta: Tensor, scores: Mapping[str, tuple[Tensor, Tensor]],
    part: tuple[slice, int],
) -> None:  # fmt: skip
    """Add (sign 1) or subtract one block of rows of a task vector, in place. ``part``: the block and the sign."""
    block, sign = part
    moved = delta[block]
    for kind, (numerators, below) in scores.items():
        sums[kind][block].addcmul_(moved, pieces.spread(numerators * below, block), value=sign)
        sums["above"][block].addcmul_(moved, pieces.spread((~below).to(moved.dtype), block), value=sign)


def _sums(pieces: Pieces, statistics: Statistics, base: Tensor, limit: float) -> dict[str, Tensor]:
    """The statistics as sums, (rows, columns) each; new tensors only where a first contribution has none yet."""
    shape = (pieces.rows, pieces.columns)
    if "first" not in statistics:
        return {name: tensor if name == "softmax" else tensor.view(shape) for name, tensor in statistics.items()}
    flat = base.reshape(shape)
    delta = statistics["first"].reshape(shape) - flat
    scores = _scores(pieces, flat, delta, limit)
    sums = _nothing(pieces, delta)
    sums["softmax"] += torch.stack([numerators for numerators, _ in scores.values()])
    for block in pieces.blocks():
        _enter(pieces, sums, delta, scores, (block, 1))
    return sums


def _nothing(pieces: Pieces, like: Tensor) -> dict[str, Tensor]:
    kinds = _kinds(pieces)
    sums = {name: torch.zeros((pieces.rows, pieces.columns), dtype=like.dtype) for name in (*kinds, "above")}
    return {**sums, "softmax": torch.zeros((len(kinds), pieces.number), dtype=like.dtype)}


def _shaped(sums: Mapping[str, Tensor], base: Tensor) -> dict[str, Tensor]:
    return {name: tensor if name == "softmax" else tensor.view(base.shape) for name, tensor in sums.items()}


def _merged(pieces: Pieces, sums: Statistics, block: slice, above: float) -> Tensor:
    """A block of rows of the merged task vector, a new tensor."""
    kinds = _kinds(pieces)
    merged = sums["above"][block] * above
    for kind, softmax in zip(kinds, sums["softmax"], strict=True):
        merged += sums[kind][block] / pieces.spread(softmax, block)
    return merged.div_(len(kinds))


def _add(
    pieces: Pieces, statistics: Statistics, base: Tensor, incoming: Incoming, how: tuple[int, float, float]
) -> Folded:
    """Add or take away a contribution; tensors of the result are new. ``how``: sign, threshold, calibration."""
    sign, limit, above = how
    delta_sq = squared_norm(incoming.delta)
    if not isfinite(delta_sq):  # ranks of NaN mean nothing; the sums tell the caller, who refuses the contribution
        return Folded(statistics, dict.fromkeys(("delta_sq", "kept_sq", "merge_sq", "dot"), delta_sq))
    if not statistics and incoming.tuned is not None:
        first = torch.empty_like(incoming.delta).copy_(incoming.tuned)
        return Folded({"first": first}, {"delta_sq": delta_sq, "kept_sq": delta_sq, "merge_sq": delta_sq, "dot": 0.0})
    flat, delta = base.reshape(pieces.rows, pieces.columns), incoming.delta.reshape(pieces.rows, pieces.columns)
    scores = _scores(pieces, flat, delta, limit)
    before = _sums(pieces, statistics, base, limit) if statistics else _nothing(pieces, delta)
    softmax = torch.stack([numerators for numerators, _ in scores.values()])
    after = {name: torch.empty_like(tensor) for name, tensor in before.items()}
    torch.add(before["softmax"], softmax, alpha=sign, out=after["softmax"])
    gone = sign < 0 and after["softmax"].numel() > 0 and float(after["softmax"].min()) < _NOBODY
    parts: dict[str, list[float]] = {"merge_sq": [], "dot": []}
    for block in pieces.blocks():
        for name in (*scores, "above"):
            after[name][block] = before[name][block]
        _enter(pieces, after, delta, scores, (block, sign))
        if not gone:
            parts["merge_sq"].append(squared_norm(_merged(pieces, after, block, above)))
        if statistics:
            parts["dot"].append(inner(delta[block], _merged(pieces, before, block, above)))
    sums = {name: exact_total(found) for name, found in parts.items()}
    entered = {"delta_sq": delta_sq, "kept_sq": delta_sq, **sums}
    return Folded({} if gone else _shaped(after, base), entered)
