"""Neighbours that are broken or lie: what is refused, what is cut short, and sums that a few of them do not move.

Everything but the two coordinatewise rules follows from inner products of the neighbours' differences to the own model,
so that one pass over the files is enough: norm clipping and centred clipping are weighted sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from statistics import median, median_low

import torch
from torch import Tensor

LEAST_FOR_ROBUST = 5
"""Neighbours from which on the robust rules are used: with fewer a liar is a fifth or more of what there is."""

CENTRED_STEPS = 3
DISTANCES = 20
"""Rounds whose distances are remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Inner products, fp64, of the neighbours' differences d_j = theta_j - own and the own last update u = own - start.

    ``gram[i][j] = <d_i, d_j>``, ``along[j] = <d_j, u>``, ``update_sq = <u, u>``; weight units squared.
    """

    gram: tuple[tuple[float, ...], ...]
    along: tuple[float, ...]
    update_sq: float

    @property
    def distances(self) -> tuple[float, ...]:
        """||theta_j - own|| per neighbour."""
        return tuple(sqrt(max(0.0, row[place])) for place, row in enumerate(self.gram))

    @property
    def update(self) -> float:
        """||own - start||: how far the last training went."""
        return sqrt(max(0.0, self.update_sq))

    def cosine(self, place: int) -> float | None:
        """Between what neighbour and node moved since this node's last mix; None where one of them did not."""
        theirs = self.gram[place][place] + 2 * self.along[place] + self.update_sq
        if theirs <= 0 or self.update_sq <= 0:
            return None
        return max(-1.0, min(1.0, (self.along[place] + self.update_sq) / sqrt(theirs * self.update_sq)))

    @property
    def spread(self) -> float:
        """``sqrt(1/n sum |x - mean|^2)`` over the node and these neighbours: its view of the consensus distance."""
        n = len(self.gram) + 1
        squares, total = sum(row[i] for i, row in enumerate(self.gram)), sum(map(sum, self.gram))
        return sqrt(max(0.0, squares / n - total / n**2))

    def only(self, places: Sequence[int]) -> Geometry:
        """That of some of the neighbours."""
        gram = tuple(tuple(self.gram[i][j] for j in places) for i in places)
        return Geometry(gram=gram, along=tuple(self.along[i] for i in places), update_sq=self.update_sq)


def reference(distances: Sequence[float], earlier: Sequence[float], update: float) -> float:
    """The distance that is usual between neighbours: what norms are held against.

    The lower median of this round's, but not above the median of earlier rounds' (a lone liar is its own median), and
    not below the own last update (who trains apart is apart).
    """
    if not distances:
        return update
    now = median_low(sorted(distances))
    usual = min(now, median(earlier)) if earlier else now
    return max(usual, update)


def clip_factors(distances: Sequence[float], radius: float | None) -> tuple[float, ...]:
    """``min(1, radius / distance)`` per neighbour; None clips nothing."""
    if radius is None:
        return (1.0,) * len(distances)
    return tuple(1.0 if distance <= radius else radius / distance for distance in distances)


def centred_clipping(gram: Sequence[Sequence[float]], radius: float, steps: int = CENTRED_STEPS) -> tuple[float, ...]:
    """Coefficients a_j of the centred clipping ``sum a_j d_j`` of the own model (at 0) and its neighbours (at d_j).

    ``v <- v + 1/n sum_i (x_i - v) min(1, radius / |x_i - v|)`` from v = 0 (Karimireddy, He and Jaggi, Learning from
    history for Byzantine robust optimization, ICML 2021, algorithm 2, with the own model as the centre to start at).
    Whatever a neighbour sends, it moves the result by at most ``steps * radius / n``.
    """
    n = len(gram) + 1
    value = [0.0] * len(gram)
    for _ in range(steps):
        norms = [_distance(gram, value, place) for place in (None, *range(len(gram)))]
        factors = [1.0 if norm <= radius else radius / norm for norm in norms]
        kept = 1.0 - sum(factors) / n
        value = [kept * a + factor / n for a, factor in zip(value, factors[1:], strict=True)]
    return tuple(value)


def _distance(gram: Sequence[Sequence[float]], value: Sequence[float], place: int | None) -> float:
    """``|x_i - v|`` from inner products; ``place`` None: of the own model."""
    apart = [(1.0 if i == place else 0.0) - a for i, a in enumerate(value)]
    square = sum(a * b * gram[i][j] for i, a in enumerate(apart) for j, b in enumerate(apart))
    return sqrt(max(0.0, square))


def trimmed_mean(differences: Tensor, drop: int) -> Tensor:
    """Per element the mean of ``[neighbours, elements]`` without the ``drop`` largest and smallest
    (Yin et al., Byzantine-robust distributed learning, ICML 2018, definition 2).

    With at most ``drop`` liars every element lies within the range of the honest ones.
    """
    ordered = differences.sort(dim=0).values
    return ordered[drop : len(ordered) - drop].mean(dim=0)


def coordinate_median(differences: Tensor) -> Tensor:
    """Per element the median of ``[neighbours, elements]``; of an even number the mean of the middle two."""
    return trimmed_mean(differences, (len(differences) - 1) // 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a mix is computed, per neighbour in ascending order of nodes: ``own + sum coefficients_j d_j``, or with a
    coordinatewise ``rule`` (trimmed_mean, median) ``own + share * rule(coefficients_j d_j)``."""

    coefficients: tuple[float, ...]
    rule: str = "sum"
    share: float = 1.0
    drop: int = 0


def recipe(
    robust: str, weights: Sequence[float], geometry: Geometry, radius: float | None, usual: float, trim: float
) -> Recipe:
    """The mix of admitted neighbours with these shares.

    ``robust``: none, trimmed_mean, median or centred_clip; used from five neighbours on, which then count alike, with
    the sum of their shares. ``radius``: longest difference that is not cut short. ``trim``: share of the neighbours
    that is dropped at each end, at least one.
    """
    factors = clip_factors(geometry.distances, radius)
    if robust == "none" or len(weights) < LEAST_FOR_ROBUST:
        return Recipe(coefficients=tuple(w * f for w, f in zip(weights, factors, strict=True)))
    share, count = sum(weights), len(weights)
    if robust == "centred_clip":
        centred = centred_clipping(geometry.gram, usual if radius is None else radius)
        return Recipe(coefficients=tuple(share * (count + 1) / count * a for a in centred))
    drop = dropped(robust, count, trim)
    return Recipe(coefficients=factors, rule=robust, share=share, drop=drop)


def dropped(robust: str, count: int, trim: float) -> int:
    """Neighbours at each end that a coordinatewise rule leaves out: as many liars may be among them."""
    if robust == "median":
        return (count - 1) // 2
    return min(max(1, int(trim * count)), (count - 1) // 2)


def mixed_block(recipe: Recipe, own: Tensor, others: Sequence[Tensor]) -> Tensor:
    """The mix of one block of elements: fp64, in the given order, rounded once to the dtype of ``own``."""
    start = own.double()
    scaled = [c * (each.double() - start) for c, each in zip(recipe.coefficients, others, strict=True)]
    if recipe.rule == "sum":
        step = torch.zeros_like(start)
        for difference in scaled:
            step += difference
    else:
        step = recipe.share * trimmed_mean(torch.stack(scaled), recipe.drop)
    return (start + step).to(own.dtype)


def worse(own: Mapping[str, float], mixed: Mapping[str, float], tolerance: float, *, loss: bool) -> bool:
    """Whether the mean of the scores of the mix is worse by more than ``tolerance`` times the own one's size.

    ``loss``: less is better.
    """
    before, after = (sum(each.values()) / len(each) for each in (own, mixed))
    if not isfinite(after):
        return True
    loses = after - before if loss else before - after
    return loses > tolerance * abs(before)
