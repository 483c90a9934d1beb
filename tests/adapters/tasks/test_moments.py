"""Grams from hooks against the inputs themselves, and what they give away about them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mergenode.adapters.tasks.failure import Failure
from mergenode.adapters.tasks.moments import InputMoments, watch_inputs


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Twice(nn.Module):
    """One layer that is called twice, by position and by keyword, one that is not called, and an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 6)
        self.used = nn.Linear(6, 6)
        self.idle = nn.Linear(6, 2)
        self.head = nn.Linear(6, 9, bias=False)
        self.head.weight = self.table.weight

    def forward(self, states: Tensor) -> Tensor:
        answer: Tensor = self.head(self.used(input=self.used(states)))
        return answer


def wanted(model: nn.Module) -> dict[int, str]:
    return {id(parameter): name for name, parameter in model.named_parameters()}


def test_a_gram_is_the_mean_of_outer_products_of_what_the_layer_saw() -> None:
    model, batches = Twice(), [draw(4, 5, 6, seed=1), draw(2, 6, seed=2)]
    grams, rows, number = watch_inputs(model, wanted(model), batches, model)
    seen = torch.cat([batch.reshape(-1, 6) for batch in batches])
    everything = torch.cat([seen, model.used(seen).detach()])
    assert set(grams) == {"used.weight"}, "neither idle layers nor tables that are looked up by index"
    assert torch.allclose(grams["used.weight"], everything.T @ everything / len(everything), atol=1e-5)
    assert torch.equal(grams["used.weight"], grams["used.weight"].T)
    assert (rows, number) == (2 * 22, 2)


def test_hooks_are_gone_afterwards() -> None:
    model = Twice()
    with InputMoments(model, wanted(model)) as moments:
        model(draw(3, 6))
    before = moments.sums["used.weight"].clone()
    model(draw(3, 6))
    assert torch.equal(moments.sums["used.weight"], before)


@pytest.mark.parametrize("fill", [float("nan"), float("inf"), 1e30])
def test_inputs_that_are_not_finite_are_told(fill: float) -> None:
    model = Twice()
    with pytest.raises(Failure, match=r"used\.weight.*not finite"):
        watch_inputs(model, wanted(model), [torch.full((2, 6), fill)], model)


def test_a_model_without_linear_layers_is_told() -> None:
    model = nn.Conv1d(1, 1, 1)
    with pytest.raises(Failure, match="no linear layer"):
        watch_inputs(model, wanted(model), [draw(1, 1, 4)], model)


def test_the_gram_of_one_example_is_the_example() -> None:
    """docs/side-cars.md: who reads the Gram of one row has the row, up to its sign."""
    model, secret = nn.Linear(64, 3), draw(64, seed=7)
    grams, _, _ = watch_inputs(model, wanted(model), [secret[None]], model)
    values, vectors = torch.linalg.eigh(grams["weight"].double())
    found = vectors[:, -1] * values[-1].sqrt()
    assert min(float((found - secret).norm()), float((found + secret).norm())) < 1e-5 * float(secret.norm())


def test_a_few_examples_are_given_away_up_to_a_rotation() -> None:
    """Their span is known exactly: a candidate can be checked for membership. With many rows it no longer can."""
    model, few = nn.Linear(64, 3), draw(8, 64, seed=8)

    def outside(rows: Tensor, candidate: Tensor) -> float:
        """Share of a candidate that lies outside the leading eight directions of the Gram."""
        grams, _, _ = watch_inputs(model, wanted(model), [rows], model)
        leading = torch.linalg.eigh(grams["weight"].double()).eigenvectors[:, -8:]
        rest = candidate.double() - leading @ (leading.T @ candidate.double())
        return float(rest.norm() / candidate.double().norm())

    stranger, many = draw(64, seed=9), torch.cat([few, draw(4000, 64, seed=10)])
    assert outside(few, few[3]) < 1e-4 < 0.5 < outside(few, stranger)
    assert outside(many, few[3]) > 0.5, "more rows hide the single one"
