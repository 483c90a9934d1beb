"""The families of networks that people mix, at sizes like those in papers: a permuted copy is the same network."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mergenode.mixers.activation_matching import match_activations
from mergenode.mixers.mix import Share, mix
from mergenode.mixers.symmetry import State, Symmetry
from mergenode.mixers.weight_matching import match_weights
from tests.support.networks import MLP, ResNet, Transformer, drawn, inputs_of, vgg

AGREE = 1e-5
"""Of outputs in single precision: absolute, and of the largest output where that is above one (the transformer's logits
reach 30). In double precision nothing is left of the difference."""

FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: MLP(width=128, depth=3),
    "vgg with BatchNorm": lambda: vgg(width=32),
    "resnet with BatchNorm": lambda: ResNet(width=16),
    "pre-norm transformer": lambda: Transformer(width=64, heads=4),
}
families = pytest.mark.parametrize("make", FAMILIES.values(), ids=FAMILIES.keys())


def by_weights(symmetry: Symmetry, own: State, other: State, batches: list[tuple[Tensor, ...]]) -> dict[str, Tensor]:
    return match_weights(symmetry, own, other)


def by_activations(
    symmetry: Symmetry, own: State, other: State, batches: list[tuple[Tensor, ...]]
) -> dict[str, Tensor]:
    return match_activations(symmetry, own, [other], batches)[0]


matchings = pytest.mark.parametrize("match", [by_weights, by_activations])


def outputs(network: nn.Module, state: State, inputs: tuple[Tensor, ...]) -> Tensor:
    network.load_state_dict(dict(state))
    with torch.no_grad():
        result: Tensor = network.eval()(*inputs)
    return result


@families
@pytest.mark.parametrize(("dtype", "agree"), [(torch.float32, AGREE), (torch.float64, 1e-11)])
def test_the_permuted_network_agrees(make: Callable[[], nn.Module], dtype: torch.dtype, agree: float) -> None:
    network, symmetry, generator = drawn(make, 7)
    own, inputs = {n: t.clone() for n, t in network.state_dict().items()}, inputs_of(network, generator, count=16)
    permuted = symmetry.permuted(own, symmetry.random(generator))
    assert any(not torch.equal(permuted[name], own[name]) for name in own)
    inputs = tuple(each.to(dtype) if each.is_floating_point() else each for each in inputs)
    expected = outputs(network.to(dtype), own, inputs)
    assert float(expected.std()) > 1e-2  # agreement says something
    atol = agree * max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(outputs(make().to(dtype), permuted, inputs), expected, rtol=0, atol=atol)


@families
@matchings
def test_mixing_with_a_permuted_copy_changes_nothing(
    make: Callable[[], nn.Module], match: Callable[..., dict[str, Tensor]]
) -> None:
    network, symmetry, generator = drawn(make, 8)
    own = network.state_dict()
    batches = [inputs_of(network, generator, count=32) for _ in range(2)]
    copy = symmetry.permuted(own, symmetry.random(generator))
    back = symmetry.permuted(copy, match(symmetry, own, copy, batches))
    mixed = mix(own, [Share(back, 1 / 3)])
    assert all(torch.equal(mixed[name], tensor) for name, tensor in own.items())


@families
@matchings
def test_mixing_with_itself_is_the_identity(
    make: Callable[[], nn.Module], match: Callable[..., dict[str, Tensor]]
) -> None:
    network, symmetry, generator = drawn(make, 9)
    own = network.state_dict()
    batches = [inputs_of(network, generator, count=32)]
    same = symmetry.permuted(own, match(symmetry, own, own, batches))
    mixed = mix(own, [Share(same, 1 / 3), Share(same, 1 / 3)])
    assert all(torch.equal(mixed[name], tensor) for name, tensor in own.items())
