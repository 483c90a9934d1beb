"""Permutations from weights: planted ones are found, the inner product never falls."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from mergenode.mixers.assignment import moved
from mergenode.mixers.weight_matching import Descent, match_weights, similarity
from tests.support.networks import NETWORKS, Grouped, ResNet, Transformer, drawn

networks = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS.keys())


@networks
@pytest.mark.parametrize("seed", range(3))
def test_a_permuted_copy_is_recovered_exactly(make: Callable[[], nn.Module], seed: int) -> None:
    network, symmetry, generator = drawn(make, seed)
    own = network.state_dict()
    copy = symmetry.permuted(own, symmetry.random(generator))
    back = symmetry.permuted(copy, match_weights(symmetry, own, copy))
    assert all(bool((back[name] == tensor).all()) for name, tensor in own.items())


@networks
def test_a_model_matched_with_itself_stays(make: Callable[[], nn.Module]) -> None:
    network, symmetry, _ = drawn(make, 0)
    assert moved(match_weights(symmetry, network.state_dict(), network.state_dict())) == 0.0


@pytest.mark.parametrize("make", [ResNet, Transformer, Grouped])
def test_no_step_makes_the_inner_product_smaller(make: Callable[[], nn.Module]) -> None:
    network, symmetry, generator = drawn(make, 1)
    other = {
        name: tensor + torch.randn(tensor.shape, generator=generator)
        for name, tensor in drawn(make, 2)[0].state_dict().items()
        if tensor.is_floating_point()
    }
    other = {**network.state_dict(), **other}
    own = network.state_dict()
    descent = Descent(symmetry, own, other)
    before, steps = similarity(symmetry, own, other, descent.permutations), 0
    for _ in range(3):
        for group in symmetry.groups:
            if group.outer is None:
                grew = descent.improve(group)
                after = similarity(symmetry, own, other, descent.permutations)
                assert after > before if grew else after == before
                before, steps = after, steps + grew
    assert steps > 0


def test_the_order_of_groups_comes_from_the_generator_alone() -> None:
    network, symmetry, _ = drawn(ResNet, 3)
    other = drawn(ResNet, 4)[0].state_dict()
    first, again = (
        match_weights(symmetry, network.state_dict(), other, generator=torch.Generator().manual_seed(5))
        for _ in range(2)
    )
    assert all(bool((first[name] == again[name]).all()) for name in first)
    assert similarity(symmetry, network.state_dict(), other, first) > similarity(
        symmetry, network.state_dict(), other, symmetry.identity()
    )


def test_a_noisy_permuted_copy_is_still_recovered() -> None:
    network, symmetry, generator = drawn(Transformer, 6)
    own = network.state_dict()
    planted = symmetry.random(generator)
    noisy = {name: tensor + 0.02 * torch.randn(tensor.shape, generator=generator) for name, tensor in own.items()}
    back = symmetry.permuted(
        symmetry.permuted(noisy, planted), match_weights(symmetry, own, symmetry.permuted(noisy, planted))
    )
    assert all(bool((back[name] == tensor).all()) for name, tensor in noisy.items())


def test_weights_that_are_not_finite_are_refused() -> None:
    network, symmetry, _ = drawn(ResNet, 0)
    broken = {**network.state_dict(), "stem.weight": torch.full_like(network.state_dict()["stem.weight"], torch.nan)}
    with pytest.raises(ValueError, match="not finite"):
        match_weights(symmetry, network.state_dict(), broken)
