"""Networks trained from different initialisations: after matching, their average works; without, it does not."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from mergenode.mixers.activation_matching import match_activations
from mergenode.mixers.graph import derive
from mergenode.mixers.mix import Share, mix, reestimate_batch_norm
from mergenode.mixers.symmetry import State
from mergenode.mixers.weight_matching import match_weights
from tests.support.networks import MLP


class Digits(NamedTuple):
    images: Tensor
    labels: Tensor

    def batches(self, size: int = 128) -> list[Tensor]:
        return list(self.images.split(size))


@cache
def digits() -> tuple[Digits, Digits]:
    """Two thirds for training and for calibration, a third for scores. Seeded."""
    loaded = load_digits()
    order = torch.randperm(len(loaded.target), generator=torch.Generator().manual_seed(0))
    images = torch.from_numpy(loaded.data).float()[order] / 16
    labels = torch.from_numpy(loaded.target)[order]
    return Digits(images[:1200], labels[:1200]), Digits(images[1200:], labels[1200:])


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


def wide_mlp() -> nn.Module:
    return MLP(width=128)


@cache
def trained(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    training, _ = digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make()
        optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
        for _ in range(8):
            for chosen in torch.randperm(1200).split(60):
                optimiser.zero_grad()
                functional.cross_entropy(network(training.images[chosen]), training.labels[chosen]).backward()
                optimiser.step()
    return network.eval()


def accuracy(make: Callable[[], nn.Module], state: State) -> float:
    """Share of right answers, with BatchNorm statistics of the training images."""
    training, test = digits()
    network = make()
    network.load_state_dict(dict(state))
    reestimate_batch_norm(network, training.batches())
    with torch.inference_mode():
        return float((network.eval()(test.images).argmax(1) == test.labels).double().mean())


@pytest.mark.parametrize("make", [wide_mlp, cnn])
def test_averaging_after_matching_beats_plain_averaging(make: Callable[[], nn.Module]) -> None:
    first, second = trained(make, 1), trained(make, 2)
    own, other = first.state_dict(), second.state_dict()
    training, _ = digits()
    symmetry = derive(first, (training.images[:2],))
    (by_activations,) = match_activations(symmetry, own, [other], training.batches())
    by_weights = match_weights(symmetry, own, other)
    apart = min(accuracy(make, own), accuracy(make, other))
    plain = accuracy(make, mix(own, [Share(other, 0.5)]))
    activations, weights = (
        accuracy(make, mix(own, [Share(symmetry.permuted(other, found), 0.5)]))
        for found in (by_activations, by_weights)
    )
    assert apart > 0.93
    assert activations > plain + 0.1
    assert weights > plain + 0.1
    assert activations > apart - 0.1
    assert accuracy(make, symmetry.permuted(other, by_activations)) == pytest.approx(accuracy(make, other), abs=0.003)
