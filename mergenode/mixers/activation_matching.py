"""Permutations from what units do: units of two networks belong together when they answer alike to the same data.

Activations are observed where the next layer reads them, and compared by correlation; the assignment is linear, exact
per group of units (Li et al., Convergent learning, 2015; DIMAT, Saadati et al., arXiv 2404.08079). Here a group that is
read in several places (a residual stream) is matched by the sum of its correlations, where DIMAT takes one place; and
one block of ours by theirs is accumulated, where DIMAT's code has all networks stacked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn

from mergenode.errors import UsageError
from mergenode.mixers.assignment import Scores
from mergenode.mixers.symmetry import Factor, State, Symmetry, factors_of
from mergenode.mixers.weight_matching import Descent

Batch = Any
Run = Callable[[nn.Module, Batch], object]
"""Calls the network on a batch, like ``loss`` of a task plug-in does; what it returns is not looked at."""

DEAD = 1e-12
"""Of the largest variance at the same place: a unit that varies less says nothing about itself."""


def on_positional(network: nn.Module, batch: Batch) -> object:
    """A tensor, or a tuple of positional arguments."""
    return network(*batch) if isinstance(batch, tuple) else network(batch)


def match_activations(
    symmetry: Symmetry, own: State, others: Sequence[State], batches: Iterable[Batch], run: Run = on_positional
) -> list[dict[str, Tensor]]:
    """For each of ``others`` the permutations that bring its units in the order of those of ``own``.

    One pass over ``batches``, in evaluation mode; every network sees the same ones. Each is matched to ``own`` alone,
    so the result does not depend on who else takes part. Between units that correlate equally, those that never vary
    above all, weights decide. A copy of ``own`` is given the identity. Memory: a copy of each
    network, its observed activations of one batch, and per group one square block per neighbour in fp64.

    Raises:
        UsageError: no batches, or a group whose units no activation shows apart from those of other groups.
        ValueError: activations are not finite.
    """
    watched = _watched(symmetry)
    networks = [_Recording(symmetry.network(state), frozenset(watched)) for state in (own, *others)]
    moments = [{name: CrossMoments() for name in watched} for _ in others]
    seen = 0
    with torch.no_grad():
        for batch in batches:
            seen += 1
            ours = _features(networks[0], run, batch, symmetry, watched)
            for network, theirs in zip(networks[1:], moments, strict=True):
                for name, features in _features(network, run, batch, symmetry, watched).items():
                    theirs[name].add(ours[name], features)
    if not seen:
        raise UsageError("no batches to match activations on", hint="Give at least one, or match by weights.")
    return [
        _solve(symmetry, watched, each, Descent(symmetry, own, other))
        for each, other in zip(moments, others, strict=True)
    ]


class CrossMoments:
    """Means, variances and the cross-covariance of two sets of features over a stream of samples.

    Batches are centred before they are multiplied, and joined as in Chan, Golub and LeVeque (1983), in fp64.
    """

    def __init__(self) -> None:
        self._count = 0
        self._means: list[Tensor] = []
        self._squares: list[Tensor] = []
        self._products = torch.zeros(0)

    def add(self, ours: Tensor, theirs: Tensor) -> None:
        """One batch: ``[features, samples]`` of each, the same samples."""
        count = ours.shape[1]
        means = [each.mean(dim=1, dtype=torch.float64) for each in (ours, theirs)]
        centred = [each - mean[:, None].to(each.dtype) for each, mean in zip((ours, theirs), means, strict=True)]
        squares = [each.square().sum(dim=1, dtype=torch.float64) for each in centred]
        products = (centred[0] @ centred[1].mT).double()
        if self._count:
            share = self._count * count / (self._count + count)
            steps = [mean - old for mean, old in zip(means, self._means, strict=True)]
            squares = [s + o + share * d.square() for s, o, d in zip(squares, self._squares, steps, strict=True)]
            products += self._products + share * torch.outer(steps[0], steps[1])
            means = [o + d * (count / (self._count + count)) for o, d in zip(self._means, steps, strict=True)]
        self._count += count
        self._means, self._squares, self._products = means, squares, products

    def correlation(self) -> Tensor:
        """fp64 ``[features, features]`` in [-1, 1], ours by theirs; zero for units that do not vary."""
        scales = [torch.where(s > DEAD * s.max(), s, torch.inf).rsqrt().to(torch.float64) for s in self._squares]
        return self._products * torch.outer(scales[0], scales[1])


class _Recording(nn.Module):
    """A network that keeps the values of some of its operations. ``kept``: of the last call."""

    def __init__(self, program: fx.GraphModule, names: frozenset[str]) -> None:
        super().__init__()
        self.program, self.names = program, names
        self.kept: dict[str, Tensor] = {}

    def forward(self, *args: object, **kwargs: object) -> object:
        open_places = [n for n in self.program.graph.nodes if n.op == "placeholder"][len(args) :]
        rest = [kwargs[str(n.target)] if str(n.target) in kwargs else n.args[0] for n in open_places]
        recorder = _Recorder(self.program, self.names, self.kept)
        return recorder.run(*args, *rest)


class _Recorder(fx.Interpreter):
    def __init__(self, program: fx.GraphModule, names: frozenset[str], kept: dict[str, Tensor]) -> None:
        super().__init__(program)
        self.extra_traceback = False
        self._names, self._kept = names, kept

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.name in self._names:
            self._kept[n.name] = result.clone()  # a later operation may work in place
        return result


def _watched(symmetry: Symmetry) -> dict[str, tuple[str, ...]]:
    """The observed values from which units can be told, with the groups that they show: one, or blocks and units."""
    inner = {group.name: group.outer for group in symmetry.groups}
    watched: dict[str, tuple[str, ...]] = {}
    for name in symmetry.observed:
        shown = [f.group for f in factors_of(symmetry.values[name]) if f.group is not None]
        if len(shown) == 1 and inner[shown[0]] is None:
            watched[name] = (shown[0],)
        elif len(shown) == 2:
            outer, within = sorted(shown, key=lambda group: inner[group] is not None)
            if inner[within] == outer:
                watched[name] = (outer, within)
    missing = [group.name for group in symmetry.groups if not any(group.name in shown for shown in watched.values())]
    if missing:
        raise UsageError(
            f"no activations show the units of {missing[0]!r} apart from others", hint="Match by weights instead."
        )
    return watched


def _features(
    network: _Recording, run: Run, batch: Batch, symmetry: Symmetry, watched: dict[str, tuple[str, ...]]
) -> dict[str, Tensor]:
    """Per watched value ``[units, samples]``, units of blocks block by block."""
    run(network, batch)
    result = {}
    for name, groups in watched.items():
        value, layout = network.kept[name], symmetry.values[name]
        factors = [factor.group for factor in factors_of(layout)]
        places = [factors.index(group) for group in groups]
        sizes = [size for axis, dim in zip(layout, value.shape, strict=True) for size in _sizes(axis, dim)]
        units = value.reshape(sizes).movedim(places, list(range(len(places))))
        result[name] = units.reshape(prod(sizes[place] for place in places), -1).to(_precision(value))
    network.kept.clear()
    return result


def _sizes(axis: tuple[Factor, ...], size: int) -> list[int]:
    """The sizes of the factors of a dimension of this size: another batch is another number of fixed units."""
    sizes = [factor.size for factor in axis]
    fixed = next((place for place, factor in enumerate(axis) if factor.group is None), None)
    if fixed is not None:
        sizes[fixed] = size // (prod(sizes) // sizes[fixed])
    return sizes or [1]


def _precision(value: Tensor) -> torch.dtype:
    return value.dtype if value.dtype == torch.float64 else torch.float32


def _solve(
    symmetry: Symmetry, watched: dict[str, tuple[str, ...]], moments: dict[str, CrossMoments], descent: Descent
) -> dict[str, Tensor]:
    for group in symmetry.groups:
        if group.outer is None:
            scores = Scores(symmetry, group)
            for name, (outer, *within) in watched.items():
                if outer == group.name and within:
                    blocks, size = scores.blocks[within[0]], group.size
                    blocks += moments[name].correlation().reshape(size, -1, size, blocks.shape[3]).transpose(1, 2)
                elif outer == group.name:
                    scores.units += moments[name].correlation()
            descent.settle(group, scores)
    return descent.permutations
