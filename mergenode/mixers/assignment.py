"""Which unit goes where: linear assignment, also of blocks whose inner units are assigned on the way."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mergenode.mixers.symmetry import Group, Symmetry

TIE = 1e-9
"""Of the largest score: what a unit gains by staying. So equal scores move nothing."""

SECOND = 1e-6
"""Of the first scores, which are correlations: how much the second may outweigh."""


class Scores:
    """How well each unit of ours goes with each of theirs, for an outermost group and the groups within its units.

    ``units`` fp64 ``[n, n]``, ours by theirs; ``blocks`` per inner group fp64 ``[n, n, d, d]``: unit i of our block a
    with unit j of their block b at ``[a, b, i, j]``. Filled by addition.
    """

    def __init__(self, symmetry: Symmetry, group: Group) -> None:
        self.group = group
        self.units = torch.zeros(group.size, group.size, dtype=torch.float64)
        self.blocks = {
            inner.name: torch.zeros(group.size, group.size, inner.size, inner.size, dtype=torch.float64)
            for inner in symmetry.inner(group)
        }

    def give_way_to(self, prior: Scores) -> None:
        """Become ``prior``, with what was here deciding between units that it holds equal."""
        mine, others = [self.units, *self.blocks.values()], [prior.units, *prior.blocks.values()]
        largest = max(float(scores.abs().max()) for scores in mine)
        for scores, first in zip(mine, others, strict=True):
            scores.mul_(SECOND / largest if largest > 0 else 0.0).add_(first)

    def solve(self) -> dict[str, Tensor]:
        """The permutations of the group and of those within it that have the largest sum of scores.

        Every pair of blocks is worth what the best assignment of their units is worth. Units stay where nothing is
        better, ``TIE`` aside. O(n^3 + n^2 d^3).

        Raises:
            ValueError: a score is not finite.
        """
        worth = self.units.clone()
        best: dict[str, Tensor] = {}
        for name, blocks in self.blocks.items():
            best[name] = torch.empty(blocks.shape[:3], dtype=torch.int64)
            for ours in range(blocks.shape[0]):
                for theirs in range(blocks.shape[1]):
                    table = assign(blocks[ours, theirs])
                    best[name][ours, theirs] = table
                    worth[ours, theirs] += blocks[ours, theirs].gather(1, table[:, None]).sum()
        order = assign(worth)
        return {self.group.name: order, **{name: _rows(tables, order) for name, tables in best.items()}}


def assign(scores: Tensor) -> Tensor:
    """int64 ``[n]``: for each row of ``scores [n, n]`` its column, so that the sum is largest.

    Raises:
        ValueError: a score is not finite.
    """
    if not bool(scores.isfinite().all()):
        raise ValueError("scores of units are not finite")
    stay = torch.eye(len(scores), dtype=torch.float64) * (TIE * float(scores.abs().max()))
    _, columns = linear_sum_assignment((scores + stay).numpy(), maximize=True)
    return torch.from_numpy(columns).to(torch.int64)


def _rows(tables: Tensor, order: Tensor) -> Tensor:
    return tables[torch.arange(len(order)), order]


def moved(permutations: Mapping[str, Tensor]) -> float:
    """Share in [0, 1] of all units that do not stay where they are."""
    tables = list(permutations.values())
    places = sum(table.numel() for table in tables)
    away = sum(int((table != torch.arange(table.shape[-1])).sum()) for table in tables)
    return away / places if places else 0.0
