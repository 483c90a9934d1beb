"""The nodes' network learns, and the same round twice gives the same weights."""

from __future__ import annotations

import torch
from torch import nn

from mergenode.demo.peers.fashion import Fashion
from mergenode.demo.peers.network import Recipe, accuracy, build, calibration, train
from mergenode.mixers.graph import derive

RECIPE = Recipe()


def weights(network: nn.Module) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in network.state_dict().values()]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_seed_is_an_initialisation() -> None:
    assert equal(weights(build(16, 3)), weights(build(16, 3)))
    assert not equal(weights(build(16, 3)), weights(build(16, 4)))


def test_a_round_that_is_repeated_gives_the_same_weights(few: Fashion) -> None:
    shard = few.training.first(200)

    def trained(round: int, seed: int) -> list[torch.Tensor]:
        network = build(16, 0)
        train(network, shard, RECIPE, round, seed)
        return weights(network)

    assert equal(trained(1, 5), trained(1, 5))
    assert not equal(trained(1, 5), trained(2, 5))
    assert not equal(trained(1, 5), trained(1, 6))


def test_it_learns_and_its_structure_is_found(few: Fashion) -> None:
    network = build(16, 0)
    before = accuracy(network, few.test)
    first = train(network, few.training, RECIPE, 0, 0)
    later = train(network, few.training, RECIPE, 1, 0)
    assert later < first
    assert accuracy(network, few.test) > before + 0.4
    groups = derive(network, (few.test.images[:2],)).groups
    assert sorted(group.size for group in groups) == [16, 32, 64]


def test_calibration_batches_are_the_first_images(few: Fashion) -> None:
    batches = calibration(few.training, RECIPE)
    assert [len(batch) for batch in batches] == [100] * 5
    assert torch.equal(torch.cat(list(batches)), few.training.images[:500])
