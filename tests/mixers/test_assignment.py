"""Assignments against trying every permutation."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.mixers.assignment import Scores, assign, moved
from mergenode.mixers.graph import derive
from mergenode.mixers.symmetry import Symmetry
from tests.support.networks import MLP, Transformer, inputs_of


@settings(deadline=None, max_examples=40)
@given(size=st.integers(1, 5), seed=st.integers(0, 999))
def test_the_sum_is_the_largest_of_all_permutations(size: int, seed: int) -> None:
    scores = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    best = max(sum(float(scores[i, p[i]]) for i in range(size)) for p in itertools.permutations(range(size)))
    table = assign(scores)
    assert sorted(table.tolist()) == list(range(size))
    assert float(scores.gather(1, table[:, None]).sum()) == pytest.approx(best, abs=1e-7)


def test_equal_scores_move_nothing() -> None:
    assert assign(torch.zeros(4, 4, dtype=torch.float64)).tolist() == [0, 1, 2, 3]
    assert assign(torch.full((5, 5), -3.5, dtype=torch.float64)).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    scores = torch.zeros(3, 3, dtype=torch.float64)
    scores[1, 2] = bad
    with pytest.raises(ValueError, match="not finite"):
        assign(scores)


def transformer() -> Symmetry:
    network = Transformer(width=9, heads=3)
    return derive(network, inputs_of(network, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("seed", range(4))
def test_blocks_and_their_units_are_assigned_together(seed: int) -> None:
    symmetry = transformer()
    heads = next(group for group in symmetry.groups if symmetry.inner(group))
    scores = Scores(symmetry, heads)
    generator = torch.Generator().manual_seed(seed)
    scores.units += torch.randn(scores.units.shape, generator=generator, dtype=torch.float64)
    for blocks in scores.blocks.values():
        blocks.add_(torch.randn(blocks.shape, generator=generator, dtype=torch.float64))

    def worth(ours: int, theirs: int) -> float:
        inner = [
            max(sum(float(b[ours, theirs, i, p[i]]) for i in range(3)) for p in itertools.permutations(range(3)))
            for b in scores.blocks.values()
        ]
        return float(scores.units[ours, theirs]) + sum(inner)

    best = max(sum(worth(h, p[h]) for h in range(3)) for p in itertools.permutations(range(3)))
    found = scores.solve()
    order = found[heads.name]
    reached = float(scores.units.gather(1, order[:, None]).sum())
    for name, blocks in scores.blocks.items():
        for h in range(3):
            reached += float(blocks[h, order[h]].gather(1, found[name][h][:, None]).sum())
    assert reached == pytest.approx(best, abs=1e-6)


def test_second_scores_only_decide_between_equals() -> None:
    network = MLP(width=4, depth=1)
    symmetry = derive(network, inputs_of(network, torch.Generator().manual_seed(0)))
    first, second = (Scores(symmetry, symmetry.groups[0]) for _ in range(2))
    first.units += torch.diag(torch.tensor([1.0, 1.0, 0.0, 0.0]))
    second.units += torch.tensor([[0, 9, 0, 0], [9, 0, 0, 0], [0, 0, 0, 5], [0, 0, 5, 0]])
    second.give_way_to(first)
    assert second.solve()[symmetry.groups[0].name].tolist() == [0, 1, 3, 2]


def test_share_of_units_that_move() -> None:
    assert moved({"a": torch.tensor([0, 1, 3, 2]), "b": torch.tensor([[1, 0], [0, 1]])}) == 0.5
    assert moved({}) == 0.0
