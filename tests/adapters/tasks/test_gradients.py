"""The diagonal Fisher and the mean gradient against gradients written down by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mergenode.adapters.tasks.batches import examples_of
from mergenode.adapters.tasks.failure import Failure
from mergenode.adapters.tasks.gradients import diagonal_fisher, mean_gradient


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


def test_the_mean_gradient_counts_batches_alike() -> None:
    """d/dW mean (w x - y)^2 = 2 mean (w x - y) x per batch, and the mean of that over batches of unequal size."""
    model, x, y = nn.Linear(5, 1, bias=False), draw(7, 5, seed=1), draw(7, 1, seed=2)
    batches = [(x[:4], y[:4]), (x[4:6], y[4:6]), (x[6:], y[6:])]
    found, loss, count = mean_gradient(model, wanted(model), batches, squared_error)
    residual = (x @ model.weight.detach().T - y).double()
    by_batch = [(2 * residual[part] * x[part]).mean(dim=0) for part in (slice(0, 4), slice(4, 6), slice(6, 7))]
    assert torch.allclose(found["weight"].double(), torch.stack(by_batch).mean(dim=0, keepdim=True), rtol=1e-5)
    squares = [float(residual[part].square().mean()) for part in (slice(0, 4), slice(4, 6), slice(6, 7))]
    assert (loss, count) == (pytest.approx(sum(squares) / 3), 3)
    assert model.weight.grad is None


def test_what_the_loss_does_not_depend_on_has_no_gradient() -> None:
    model = nn.ModuleDict({"used": nn.Linear(5, 1), "frozen": nn.Linear(5, 1), "unused": nn.Linear(5, 1)})
    model["frozen"].requires_grad_(False)
    found, _, _ = mean_gradient(model, wanted(model), [draw(1, 5)], lambda m, x: (m["used"](x) + m["frozen"](x)).sum())
    assert set(found) == {"used.weight", "used.bias"}


def test_a_gradient_of_a_small_type_is_added_up_in_fp32() -> None:
    """In bfloat16, 256 + 1 is 256."""
    model = nn.Linear(1, 1, bias=False).bfloat16()
    batches = [torch.full((1, 1), value).bfloat16() for value in (256.0, 1.0, 1.0, 1.0)]
    found, _, _ = mean_gradient(model, wanted(model), batches, lambda m, x: m(x).sum())
    assert found["weight"].dtype is torch.float32
    assert found["weight"].item() == 259 / 4


def test_without_batches_or_anything_to_differentiate_there_is_no_gradient() -> None:
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    with pytest.raises(Failure, match="yields nothing"):
        mean_gradient(model, wanted(model), [], squared_error)
    with pytest.raises(Failure, match="depends on no tensor"):
        mean_gradient(model, wanted(model), [draw(1, 3)], lambda _, x: other(x).sum())
    with pytest.raises(Failure, match="gradient of 'weight' is not finite"):
        mean_gradient(model, wanted(model), [draw(1, 3)], lambda m, x: (0 * m(x).sum()).sqrt())
    model.requires_grad_(False)
    with pytest.raises(Failure, match="no parameters"):
        mean_gradient(model, wanted(model), [draw(1, 3)], squared_error)


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
