"""Permutations from activations: planted ones are found, correlations are those of the definition."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from mergenode.errors import UsageError
from mergenode.mixers.activation_matching import CrossMoments, match_activations
from mergenode.mixers.assignment import moved
from mergenode.mixers.graph import derive
from tests.support.networks import MLP, NETWORKS, ResNet, Transformer, drawn, inputs_of

networks = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS.keys())


@networks
@pytest.mark.parametrize("seed", range(2))
def test_a_permuted_copy_is_recovered_exactly(make: Callable[[], nn.Module], seed: int) -> None:
    network, symmetry, generator = drawn(make, seed)
    own = network.state_dict()
    copies = [symmetry.permuted(own, symmetry.random(generator)) for _ in range(2)]
    batches = [inputs_of(network, generator, count=count) for count in (16, 16, 5)]
    for copy, found in zip(copies, match_activations(symmetry, own, copies, batches), strict=True):
        back = symmetry.permuted(copy, found)
        assert all(bool((back[name] == tensor).all()) for name, tensor in own.items())


@networks
def test_a_model_matched_with_itself_stays(make: Callable[[], nn.Module]) -> None:
    network, symmetry, generator = drawn(make, 0)
    own = network.state_dict()
    (found,) = match_activations(symmetry, own, [own], [inputs_of(network, generator, count=8)])
    assert moved(found) == 0.0


@settings(deadline=None, max_examples=25)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 999), offset=st.floats(-50, 50))
def test_correlations_of_a_stream_are_those_of_all_samples(sizes: list[int], seed: int, offset: float) -> None:
    draws = np.random.default_rng(seed)
    count = sum(sizes) + 2
    mixing = draws.normal(size=(7, 7))
    both = torch.from_numpy(mixing @ draws.normal(size=(7, count)) + offset)
    moments, start = CrossMoments(), 0
    for size in [*sizes, 2]:
        moments.add(both[:3, start : start + size], both[3:, start : start + size])
        start += size
    expected = np.corrcoef(both.numpy())[:3, 3:]
    np.testing.assert_allclose(moments.correlation().numpy(), expected, atol=1e-6)


def test_a_unit_that_never_varies_correlates_with_nothing() -> None:
    moments = CrossMoments()
    moments.add(torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]), torch.tensor([[0.3, 0.3, 0.3], [3.0, 2.0, 1.0]]))
    assert moments.correlation().tolist() == [[0.0, pytest.approx(-1.0)], [0.0, 0.0]]


def test_each_neighbour_is_matched_without_regard_to_the_others() -> None:
    network, symmetry, generator = drawn(ResNet, 3)
    others = [drawn(ResNet, seed)[0].state_dict() for seed in (4, 5)]
    batches = [inputs_of(network, generator, count=16)]
    together = match_activations(symmetry, network.state_dict(), others, batches)
    alone = match_activations(symmetry, network.state_dict(), others[1:], batches)
    assert all(bool((together[1][name] == alone[0][name]).all()) for name in alone[0])
    assert moved(together[0]) > 0.5


def test_a_task_may_call_the_network_in_its_own_way() -> None:
    network, symmetry, generator = drawn(Transformer, 0)
    own = network.state_dict()
    copy = symmetry.permuted(own, symmetry.random(generator))
    batch = {"ids": inputs_of(network, generator, count=8)[0], "labels": torch.zeros(8, dtype=torch.int64)}

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return functional.cross_entropy(model(ids=batch["ids"])[:, -1], batch["labels"])

    (found,) = match_activations(symmetry, own, [copy], [batch], run=loss)
    back = symmetry.permuted(copy, found)
    assert all(bool((back[name] == tensor).all()) for name, tensor in own.items())


def test_no_batches_are_refused() -> None:
    network, symmetry, _ = drawn(MLP, 0)
    with pytest.raises(UsageError, match="no batches"):
        match_activations(symmetry, network.state_dict(), [network.state_dict()], [])


def test_activations_that_are_not_finite_are_refused() -> None:
    network, symmetry, generator = drawn(MLP, 0)
    broken = {name: tensor * torch.inf for name, tensor in network.state_dict().items()}
    with pytest.raises(ValueError, match="not finite"):
        match_activations(symmetry, network.state_dict(), [broken], [inputs_of(network, generator)])


class Outer(nn.Module):
    """Two kinds of units in one product, so that neither is seen without the other."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(4, 3), nn.Linear(4, 5), nn.Linear(15, 2)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head((self.a(x)[:, :, None] * self.b(x)[:, None, :]).flatten(1))
        return logits


def test_units_that_no_activation_shows_alone_are_refused_by_name() -> None:
    network = Outer()
    symmetry = derive(network, (torch.randn(3, 4),))
    state = network.state_dict()
    with pytest.raises(UsageError, match=r"'(a|b).weight\[0\]") as refused:
        match_activations(symmetry, state, [state], [torch.randn(3, 4)])
    assert "weights" in refused.value.hint
