"""Permutations from weights alone: the order of units in which two networks have the largest inner product.

Coordinate descent over groups of units as in Git Re-Basin (Ainsworth et al., arXiv 2209.04836, algorithm 1): with all
other groups in place, the best permutation of one is a linear assignment. Here the first sweep follows the forward pass
and looks only at tensors whose other axes are settled, which finds a permuted copy at once; a step is taken only when
the inner product over all tensors grows, so it never falls; blocks (attention heads) are assigned with the units in
them. Buffers follow the permutations and have no say in them.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from mergenode.mixers.assignment import Scores
from mergenode.mixers.symmetry import Factor, Group, Layout, Permutations, State, Symmetry, factors_of, reorder

GROWTH = 1e-12
"""Relative growth of the inner product below which a step is rounding."""


def match_weights(
    symmetry: Symmetry, own: State, other: State, *, generator: torch.Generator | None = None, sweeps: int = 100
) -> dict[str, Tensor]:
    """The permutations that bring the units of ``other`` in the order of those of ``own``.

    ``generator``: the order of groups in each sweep after the first is random; None: that of the forward pass, the
    same on every machine. At most ``sweeps`` sweeps; stops after one in which nothing grows. A local optimum: exact
    for a permuted copy with weights in general position, the identity for a copy.

    Raises:
        ValueError: weights are not finite, or are not those of the model.
    """
    search = Descent(symmetry, own, other)
    outermost = [group for group in symmetry.groups if group.outer is None]
    for group in outermost:
        search.settle(group)
    for _ in range(sweeps):
        order = (
            range(len(outermost)) if generator is None else torch.randperm(len(outermost), generator=generator).tolist()
        )
        if not any([search.improve(outermost[place]) for place in order]):
            break
    return search.permutations


def similarity(symmetry: Symmetry, own: State, other: State, permutations: Permutations) -> float:
    """The inner product of all parameters of ``own`` with those of the permuted ``other``, in fp64."""
    return _inner(symmetry, own, other, permutations, symmetry.learned)


class Descent:
    """One search. ``permutations`` is the best that was found so far, at first the identity."""

    def __init__(self, symmetry: Symmetry, own: State, other: State) -> None:
        self._symmetry, self._own, self._other = symmetry, own, other
        self._settled: set[str] = set()
        self.permutations = symmetry.identity()

    def settle(self, group: Group, prior: Scores | None = None) -> None:
        """Assigns the group by those tensors whose other groups have been settled; by all that have it, if none is.

        ``prior``: scores that come first; weights then only decide between units that it holds equal.
        """
        family = self._family(group)
        holding = self._holding(group)
        clear = [
            (name, place)
            for name, place in holding
            if {f.group for k, f in enumerate(self._factors(name)) if k != place and f.group} - family <= self._settled
        ]
        scores = self._scores(group, clear or holding)
        if prior is not None:
            scores.give_way_to(prior)
        self.permutations |= scores.solve()
        self._settled |= family

    def improve(self, group: Group) -> bool:
        """Assigns the group by all tensors that have it, if that makes the inner product larger. Whether it did."""
        holding = self._holding(group)
        names = list(dict.fromkeys(name for name, _ in holding))
        better = {**self.permutations, **self._scores(group, holding).solve()}
        before, after = (
            _inner(self._symmetry, self._own, self._other, each, names) for each in (self.permutations, better)
        )
        if after <= before + GROWTH * abs(before):
            return False
        self.permutations = better
        return True

    def _scores(self, group: Group, holding: Iterable[tuple[str, int]]) -> Scores:
        scores = Scores(self._symmetry, group)
        for name, place in holding:
            self._add(scores, name, place)
        return scores

    def _add(self, scores: Scores, name: str, place: int) -> None:
        """What one tensor says about the units along one of its factors, with all other axes in place."""
        factors = self._factors(name)
        within = [k for k, factor in enumerate(factors) if factor.outer == scores.group.name]
        shape = [factor.size for factor in factors]
        released = [Factor(f.size) if k == place or k in within else f for k, f in enumerate(factors)]
        ours = self._own[name].double().reshape(shape)
        theirs = reorder(self._other[name].double().reshape(shape), tuple((f,) for f in released), self.permutations)
        if not within:
            scores.units += _rows(ours, [place]) @ _rows(theirs, [place]).mT
            return
        arrived = self.permutations[scores.group.name].argsort()
        for k in within:
            aligned = theirs
            for other in set(within) - {k}:
                table = self.permutations[factors[other].group or ""][arrived]
                layout = _only(shape, place, other, scores.group.name)
                aligned = reorder(aligned, layout, {scores.group.name: torch.arange(shape[place]), "inner": table})
            products = _rows(ours, [place, k]) @ _rows(aligned, [place, k]).mT
            blocks = products.reshape(shape[place], shape[k], shape[place], shape[k]).transpose(1, 2)
            scores.blocks[factors[k].group or ""] += blocks

    def _holding(self, group: Group) -> list[tuple[str, int]]:
        """Every parameter and factor of it that is this group."""
        return [
            (name, place)
            for name in self._symmetry.learned
            for place, factor in enumerate(self._factors(name))
            if factor.group == group.name
        ]

    def _family(self, group: Group) -> set[str]:
        return {group.name, *(inner.name for inner in self._symmetry.inner(group))}

    def _factors(self, name: str) -> list[Factor]:
        return factors_of(self._symmetry.tensors[name])


def _only(shape: list[int], outer: int, inner: int, name: str) -> Layout:
    """A layout in which nothing moves but the units within blocks."""
    named = {outer: Factor(shape[outer], name), inner: Factor(shape[inner], "inner", name)}
    return tuple((named.get(place, Factor(size)),) for place, size in enumerate(shape))


def _rows(tensor: Tensor, places: list[int]) -> Tensor:
    """``[units, rest]``, units along the dimensions ``places``."""
    first = tensor.movedim(places, list(range(len(places))))
    return first.reshape(first.shape[: len(places)].numel(), -1)


def _inner(symmetry: Symmetry, own: State, other: State, permutations: Permutations, names: Iterable[str]) -> float:
    return sum(
        float((own[name].double() * reorder(other[name].double(), symmetry.tensors[name], permutations)).sum())
        for name in names
    )
