"""Singular triplets of several task vectors of one linear map: what of them is kept, pooled and put together again.

Statistics of one weight (d_out, d_in), r triplets in the order of arrival, strongest first within a contribution:

- ``left``      (d_out, r) and ``right`` (d_in, r): singular vectors in columns
- ``triplets``  (2, r): singular values, and the place of each among those of its contribution (see ``Shares``)
- ``count``     (1,): contributions that have moved the tensor
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mergenode.maths.agreement import agreement, agreement_bytes
from mergenode.maths.gram import panel_rows
from mergenode.maths.norms import exact_total, inner, squared_norm
from mergenode.maths.polar import polar_bytes, polar_factor
from mergenode.maths.rank import numerical_rank, participating_rank
from mergenode.maths.subspaces import leading_subspaces
from mergenode.methods.contract import Statistics
from mergenode.methods.layouts import Layout, Stored
from mergenode.types import DType, TensorSpec


@dataclass(frozen=True, slots=True)
class Shares:
    """How many triplets each contribution may keep of the ``share`` of all directions of a matrix.

    Equal: of n contributions each keeps the first floor(share k / n), k the short side; beyond share k contributions
    the strongest of the first ones stay. The place of a triplet is its number from 0.

    ``adaptive``: a contribution in which K singular values take part (``maths.rank.participating_rank``) has K triplets
    to offer, at places 1/K, 2/K .. 1; of all offers the floor(share k) with the smallest places stay, the stronger of
    two at the same place. So all shrink in proportion to what they offered.

    Either way what is dropped would be dropped from a larger pool too: a stream keeps what the batch keeps.
    """

    share: float
    adaptive: bool

    def most(self, shape: tuple[int, ...]) -> int:
        return max(1, int(self.share * min(shape)))

    def newcomers(self, values: Tensor, shape: torch.Size, dtype: torch.dtype, arrived: int) -> int:
        """Triplets to take of a contribution with these singular values, the ``arrived``-th: none in the noise."""
        real = numerical_rank(values, shape, dtype)
        if self.adaptive:
            return min(real, self.most(shape), participating_rank(values[:real]))
        return min(real, max(1, int(self.share * min(shape)) // arrived))

    def places(self, values: Tensor, rank: int) -> Tensor:
        """(rank,), fp64, for the leading ones of all singular values (k,) that are no noise."""
        order = torch.arange(rank, dtype=torch.float64)
        return (order + 1) / participating_rank(values) if self.adaptive else order

    def chosen(self, triplets: Tensor, count: int, shape: tuple[int, ...]) -> Tensor:
        """Indices, ascending, of the triplets (2, r) that stay of what ``count`` contributions have in a pool."""
        values, places = triplets
        rank = int(self.share * min(shape)) // count
        if rank and not self.adaptive:
            return torch.nonzero(places < rank).view(-1)
        offered = torch.arange(len(places)) if self.adaptive else torch.nonzero(places == 0).view(-1)
        offered = offered[values[offered].argsort(descending=True, stable=True)]
        offered = offered[places[offered].argsort(stable=True)]
        return offered[: self.most(shape)].sort().values


def leading_triplets(delta: Tensor, shares: Shares, arrived: int) -> Statistics:
    """Of the ``arrived``-th task vector (d_out, d_in), finite, not zero. Raises LinAlgError."""
    wide = delta.shape[0] < delta.shape[1]
    tall = delta.mT if wide else delta
    found = leading_subspaces(tall, lambda values: shares.newcomers(values, tall.shape, tall.dtype, arrived))
    left, right = (found.right, found.left) if wide else (found.left, found.right)
    real = found.values[: numerical_rank(found.values, tall.shape, tall.dtype)]
    kept = torch.stack([found.values[: left.shape[1]], shares.places(real, left.shape[1])])
    count = torch.ones(1, device=delta.device, dtype=delta.dtype)
    return {"left": left, "right": right, "triplets": kept.to(device=delta.device, dtype=delta.dtype), "count": count}


def pooled(left: Statistics, right: Statistics, shares: Shares) -> Statistics:
    """The triplets of both, cut to what each contribution may keep among all of them. Tensors of the result are new."""
    count = left["count"] + right["count"]
    triplets = torch.cat([left["triplets"], right["triplets"]], dim=1)
    shape = (left["left"].shape[0], left["right"].shape[0])
    chosen = shares.chosen(triplets, int(count), shape)
    border = left["triplets"].shape[1]
    here, there = chosen[chosen < border], chosen[chosen >= border] - border
    vectors = {}
    for side in ("left", "right"):
        vectors[side] = left[side].new_empty((left[side].shape[0], len(chosen)))
        vectors[side][:, : len(here)] = left[side][:, here]
        vectors[side][:, len(here) :] = right[side][:, there]
    return {**vectors, "triplets": triplets[:, chosen], "count": count}


def sums_of_product(statistics: Statistics, delta: Tensor | None = None) -> tuple[float, float]:
    """||P||^2 and <delta, P> (0 without) of P = U diag(s) V^T (d_out, d_in), all triplets; P is never there whole."""
    if not statistics:
        return 0.0, 0.0
    left, values, right = statistics["left"], statistics["triplets"][0], statistics["right"]
    dots, squares = [], []
    for start in range(0, left.shape[0], panel_rows(right.shape[0])):
        rows = slice(start, start + panel_rows(right.shape[0]))
        panel = (left[rows] * values) @ right.mT
        if delta is not None:
            dots.append(inner(delta[rows], panel))
        squares.append(squared_norm(panel))
    return exact_total(squares), exact_total(dots)


def decorrelated(shape: tuple[int, ...], statistics: Statistics) -> Tensor:
    """polar(U) diag(s) polar(V)^T, (d_out, d_in), a new tensor. Raises LinAlgError, see ``maths.subspaces``."""
    left, values, right = statistics["left"], statistics["triplets"][0], statistics["right"]
    if not len(values):
        return left.new_zeros(shape)
    weighted = polar_factor(left).factor.mul_(values)
    return weighted @ polar_factor(right).factor.mT


def triplet_layouts(spec: TensorSpec, shares: Shares) -> tuple[Layout, ...]:
    """Those of the statistics of a matrix."""
    (m, n), most = spec.shape, shares.most(spec.shape)
    vectors = {"left": Stored((m, None), most=most), "right": Stored((n, None), most=most)}
    triplets = Stored((2, None), least=0.0, most=most)
    return ({**vectors, "triplets": triplets, "count": Stored((1,), least=1.0)},)


def agreed(shape: tuple[int, ...], statistics: Statistics) -> Tensor:
    """The triplets of equal shares put together by ``maths.agreement``, (d_out, d_in), a new tensor. Raises
    LinAlgError."""
    values, places = statistics["triplets"]
    if not len(values):
        return statistics["left"].new_zeros(shape)
    starts = torch.nonzero(places == 0).view(-1).tolist()
    return agreement(statistics["left"], values, statistics["right"], starts)


def triplet_bytes(spec: TensorSpec, shares: Shares) -> int:
    """The most that the statistics of a matrix take."""
    m, n = spec.shape
    return _itemsize(spec) * (shares.most(spec.shape) * (m + n + 2) + 1)


def folding_bytes(spec: TensorSpec, shares: Shares) -> int:
    """What a fold allocates beyond inputs and outputs: a decomposition, when the pool is not there yet; then the
    newcomer's vectors, at most half of all, and a copy of one side."""
    m, n = spec.shape
    short, itemsize = min(m, n), _itemsize(spec)
    pooling = itemsize * max(short, shares.most(spec.shape)) * ((m + n) // 2 + max(m, n))
    return max(polar_bytes(m, n, itemsize) - itemsize * short * (m + n) // 2, pooling)


def decorrelating_bytes(spec: TensorSpec) -> int:
    """What ``decorrelated`` allocates beyond input and output; the first factor is there before the output is."""
    m, n = spec.shape
    return max(polar_bytes(side, min(m, n), _itemsize(spec)) for side in (m, n))


def agreeing_bytes(spec: TensorSpec, shares: Shares) -> int:
    """What ``agreed`` allocates beyond input and output."""
    return agreement_bytes(spec.shape[0], spec.shape[1], shares.most(spec.shape))


def _itemsize(spec: TensorSpec) -> int:
    return 8 if spec.dtype is DType.F64 else 4
