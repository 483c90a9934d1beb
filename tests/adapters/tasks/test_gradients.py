"""The diagonal Fisher against gradients written down by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mergenode.adapters.tasks.batches import examples_of
from mergenode.adapters.tasks.failure import Failure
from mergenode.adapters.tasks.gradients import diagonal_fisher


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def wanted(model: nn.Module) -> dict[int, str]:
    return {id(parameter): name for name, parameter in model.named_parameters()}


def squared_error(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return (model(batch[0]) - batch[1]).square().mean()


def test_it_is_the_mean_of_squares_of_single_gradients() -> None:
    """d/dW (w x - y)^2 = 2 (w x - y) x: per example, not of the batch, whose gradients would partly cancel."""
    model, x, y = nn.Linear(5, 1, bias=False), draw(7, 5, seed=1), draw(7, 1, seed=2)
    found, count = diagonal_fisher(model, wanted(model), examples_of((x, y)), squared_error)
    single = 2 * (x @ model.weight.detach().T - y) * x
    assert count == 7
    assert torch.allclose(found["weight"], single.square().mean(dim=0, keepdim=True), rtol=1e-5)
    assert not torch.allclose(found["weight"], single.mean(dim=0, keepdim=True).square(), rtol=0.1)


def test_frozen_and_unused_parameters() -> None:
    model = nn.ModuleDict({"used": nn.Linear(5, 1), "frozen": nn.Linear(5, 1), "unused": nn.Linear(5, 1)})
    model["frozen"].requires_grad_(False)
    found, _ = diagonal_fisher(model, wanted(model), [draw(1, 5)], lambda m, x: (m["used"](x) + m["frozen"](x)).sum())
    assert set(found) == {"used.weight", "used.bias", "unused.weight", "unused.bias"}
    assert not found["unused.weight"].any() and bool(found["used.weight"].all())
    assert all(parameter.grad is None for parameter in model.parameters()), "the model is left as it was"


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (lambda model, x: model(x), r"tensor of shape \[1, 2\]"),
        (lambda model, x: 0.5, "float"),
        (lambda model, x: model(x).detach().sum(), "without gradient"),
        (lambda model, x: model(x).sum() * float("nan"), "returned nan"),
        (lambda model, x: model(x).sum() * 1e30, "not finite"),
    ],
)
def test_what_is_no_loss_is_told(loss: Any, said: str) -> None:
    model = nn.Linear(3, 2)
    with pytest.raises(Failure, match=said) as caught:
        diagonal_fisher(model, wanted(model), [draw(1, 3)], loss)
    assert caught.value.kind == "invalid"


def test_without_examples_or_parameters_there_is_none() -> None:
    model = nn.Linear(3, 2)
    with pytest.raises(Failure, match="no examples"):
        diagonal_fisher(model, wanted(model), [], functional.mse_loss)
    model.requires_grad_(False)
    with pytest.raises(Failure, match="no parameters"):
        diagonal_fisher(model, wanted(model), [draw(1, 3)], functional.mse_loss)
