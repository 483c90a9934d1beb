"""Weighted sums and BatchNorm statistics, against their definitions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mergenode.errors import UsageError
from mergenode.mixers.mix import Share, mix, reestimate_batch_norm
from tests.support.networks import MLP, ResNet, Transformer, inputs_of, vgg


def state(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(3, 4, generator=generator, dtype=torch.float64).to(dtype)
    return {"w": weights, "steps": torch.tensor(seed)}


def test_a_weighted_sum() -> None:
    own, a, b = state(1), state(2), state(3)
    mixed = mix(own, [Share(a, 0.2), Share(b, 0.3)])
    torch.testing.assert_close(mixed["w"], 0.5 * own["w"] + 0.2 * a["w"] + 0.3 * b["w"])
    assert int(mixed["steps"]) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_equal_models_give_that_model_bit_for_bit(dtype: torch.dtype) -> None:
    own = state(1, dtype)
    mixed = mix(own, [Share(state(1, dtype), 1 / 3), Share(state(1, dtype), 0.1)])
    assert mixed["w"].dtype == dtype
    assert bool((mixed["w"] == own["w"]).all())


def test_alone_the_model_stays_and_is_a_copy() -> None:
    own = state(1)
    mixed = mix(own, [])
    assert bool((mixed["w"] == own["w"]).all())
    mixed["w"].zero_()
    assert bool(own["w"].any())


@pytest.mark.parametrize("weights", [[0.7, 0.4], [-0.1], [float("nan")], [float("inf")]])
def test_shares_that_leave_nothing_sensible_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="shares of"):
        mix(state(1), [Share(state(2), weight) for weight in weights])


def test_other_names_and_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="'w'"):
        mix(state(1), [Share({"w": torch.ones(2), "steps": torch.tensor(0)}, 0.5)])
    with pytest.raises(ValueError, match="'steps'"):
        mix(state(1), [Share({"w": torch.ones(3, 4)}, 0.5)])


def test_statistics_are_the_averages_over_batches() -> None:
    network = vgg()
    generator = torch.Generator().manual_seed(0)
    batches = [inputs_of(network, generator, count=count) for count in (8, 8, 4)]
    assert reestimate_batch_norm(network, batches) == 3
    first, norm = network[0], network[1]
    seen = [first(batch[0]) for batch in batches]
    means = torch.stack([each.mean((0, 2, 3)) for each in seen]).mean(0)
    variances = torch.stack([each.transpose(0, 1).flatten(1).var(1) for each in seen]).mean(0)
    torch.testing.assert_close(norm.running_mean, means)
    torch.testing.assert_close(norm.running_var, variances)


def test_modes_momentum_and_parameters_are_as_before() -> None:
    network = ResNet().train()
    network.stages[0].eval()
    modes = [module.training for module in network.modules()]
    before = {name: parameter.clone() for name, parameter in network.named_parameters()}
    reestimate_batch_norm(network, [inputs_of(network, torch.Generator().manual_seed(0), count=4)])
    assert [module.training for module in network.modules()] == modes
    assert all(m.momentum == 0.1 for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    assert all(bool((parameter == before[name]).all()) for name, parameter in network.named_parameters())


def test_a_model_without_batch_norm_asks_for_no_batch() -> None:
    batches = iter([inputs_of(MLP(), torch.Generator())])
    assert reestimate_batch_norm(Transformer(), batches) == 0
    assert len(list(batches)) == 1


@pytest.mark.parametrize("batches", [[], [(torch.ones(4, 3, 8, 8),), (torch.ones(4, 99, 8, 8),)]])
def test_statistics_stay_when_a_batch_fails(batches: list[tuple[Tensor, ...]]) -> None:
    network = vgg().train()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    with pytest.raises((UsageError, RuntimeError)):
        reestimate_batch_norm(network, batches)
    assert all(bool((buffer == before[name]).all()) for name, buffer in network.named_buffers())
    assert all(module.training for module in network.modules())
