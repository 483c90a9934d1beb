"""Reordering of tensors, against index arithmetic spelled out."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from mergenode.mixers.graph import derive
from mergenode.mixers.symmetry import Factor, Symmetry, reorder
from tests.support.networks import MLP, Transformer, inputs_of

HEADS, UNITS, STREAM = Factor(3, "heads"), Factor(4, "units", "heads"), Factor(5, "stream")


def drawn(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "heads": torch.randperm(3, generator=generator),
        "units": torch.stack([torch.randperm(4, generator=generator) for _ in range(3)]),
        "stream": torch.randperm(5, generator=generator),
    }


@pytest.mark.parametrize("seed", range(3))
def test_units_of_blocks_go_where_the_tables_say(seed: int) -> None:
    p = drawn(seed)
    weight = torch.arange(60.0).reshape(12, 5)
    result = reorder(weight, ((HEADS, UNITS), (STREAM,)), p)
    for h, u, s in itertools.product(range(3), range(4), range(5)):
        head = int(p["heads"][h])
        assert result[4 * h + u, s] == weight[4 * head + int(p["units"][h, u]), int(p["stream"][s])]


def test_blocks_and_their_units_may_lie_in_any_dimension() -> None:
    p = drawn(5)
    value = torch.arange(2 * 4 * 7 * 3.0).reshape(2, 4, 7, 3)
    result = reorder(value, ((Factor(2),), (UNITS,), (Factor(7),), (HEADS,)), p)
    for h, u in itertools.product(range(3), range(4)):
        assert bool((result[:, u, :, h] == value[:, int(p["units"][h, u]), :, int(p["heads"][h])]).all())


def test_a_group_on_both_sides_of_a_matrix_moves_on_both() -> None:
    p = drawn(1)
    weight = torch.arange(25.0).reshape(5, 5)
    assert bool((reorder(weight, ((STREAM,), (STREAM,)), p) == weight[p["stream"]][:, p["stream"]]).all())


def test_what_does_not_move_is_the_same_tensor() -> None:
    weight = torch.ones(7)
    assert reorder(weight, ((Factor(7),),), drawn(0)) is weight


def test_a_tensor_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(4, 5\)"):
        reorder(torch.ones(4, 5), ((STREAM,), (STREAM,)), drawn(0))


def symmetry_of(network: MLP | Transformer) -> Symmetry:
    return derive(network, inputs_of(network, torch.Generator().manual_seed(0)))


def test_the_identity_moves_nothing() -> None:
    network = Transformer()
    state = network.state_dict()
    symmetry = symmetry_of(network)
    moved = symmetry.permuted(state, symmetry.identity())
    assert all(bool((moved[name] == tensor).all()) for name, tensor in state.items())


def test_random_permutations_are_permutations_and_repeat_with_the_seed() -> None:
    symmetry = symmetry_of(Transformer())
    first, again = (symmetry.random(torch.Generator().manual_seed(3)) for _ in range(2))
    for group in symmetry.groups:
        table = first[group.name]
        assert tuple(table.shape) == symmetry.table_shape(group)
        assert bool((table.sort(dim=-1).values == torch.arange(group.size)).all())
        assert bool((table == again[group.name]).all())


def test_a_state_of_another_model_is_refused() -> None:
    symmetry = symmetry_of(MLP())
    with pytest.raises(ValueError, match=r"'tokens.weight'|'head.bias'|'hidden.0.bias'"):
        symmetry.permuted(Transformer().state_dict(), symmetry.identity())
    with pytest.raises(ValueError, match="shape"):
        symmetry.permuted(MLP(width=30).state_dict(), symmetry.identity())


def test_the_network_of_a_state_is_a_copy() -> None:
    network = MLP()
    symmetry = symmetry_of(network)
    state = {name: torch.zeros_like(tensor) for name, tensor in network.state_dict().items()}
    zero = symmetry.network(state)
    assert not bool(zero(torch.ones(2, 64)).any())
    assert bool(network(torch.ones(2, 64)).any())
