"""Sums over what models say, against the loss that they stand for, written out term by term."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mergenode.maths.probe_sums import ProbeSums, added, disagreement, head_metric, sums_of


def draws(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def contributions(seed: int, count: int, inputs: int, width: int) -> list[tuple[Tensor, Tensor, float]]:
    draw = draws(seed)
    return [
        (
            torch.randn(inputs, width, generator=draw),
            torch.randn(2 + number, width, generator=draw),
            0.5 + float(torch.rand((), generator=draw)),
        )
        for number in range(count)
    ]


def literal_metric(head: Tensor) -> Tensor:
    """Differences between all pairs of classes: what a softmax over the head can see."""
    classes, total = len(head), torch.zeros(head.shape[1], head.shape[1], dtype=torch.float64)
    for one in head.double():
        for other in head.double():
            total += torch.outer(one - other, one - other) / (2 * classes)
    return total / torch.linalg.eigvalsh(total)[-1]


def literal_loss(outputs: Tensor, given: list[tuple[Tensor, Tensor, float]]) -> float:
    """sum_i w_i mean_x (f - f_i)^T A_i (f - f_i)."""
    total = 0.0
    for says, head, weight in given:
        metric = literal_metric(head)
        for own, other in zip(outputs.double(), says.double(), strict=True):
            total += weight * float((own - other) @ metric @ (own - other)) / len(outputs)
    return total


def summed(given: list[tuple[Tensor, Tensor, float]]) -> ProbeSums:
    total = sums_of(*given[0])
    for one in given[1:]:
        total = added(total, sums_of(*one))
    return total


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 999), st.integers(1, 5), st.integers(1, 6), st.integers(2, 7))
def test_two_models_differ_by_the_literal_loss(seed: int, count: int, inputs: int, width: int) -> None:
    given_ = contributions(seed, count, inputs, width)
    one, other = torch.randn(2, inputs, width, generator=draws(seed + 1))
    sums = summed(given_)
    found = float(disagreement(one, *sums) - disagreement(other, *sums))
    wanted = literal_loss(one, given_) - literal_loss(other, given_)
    assert found == pytest.approx(wanted, rel=1e-4, abs=1e-3)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 999), st.permutations(range(4)))
def test_any_order_and_a_retraction_give_the_same_sums(seed: int, order: list[int]) -> None:
    given_ = contributions(seed, 4, 5, 6)
    all_of_them = summed([given_[number] for number in order])
    without = added(all_of_them, sums_of(*given_[0]), sign=-1.0)
    for found, wanted in ((all_of_them, summed(given_)), (without, summed(given_[1:]))):
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_one_contribution_is_served_by_what_it_says_itself() -> None:
    says, head, weight = contributions(3, 1, 8, 5)[0]
    sums = sums_of(says, head, weight)
    best = float(disagreement(says, *sums))
    for step in torch.randn(20, 8, 5, generator=draws(1)):
        assert float(disagreement(says + 0.1 * step, *sums)) >= best - 1e-5
    along_no_class = torch.linalg.svd(head - head.mean(0))[2][-1]
    assert float(disagreement(says + 3 * along_no_class, *sums)) == pytest.approx(best, rel=1e-4)


def test_a_head_of_one_row_stands_for_itself() -> None:
    metric = head_metric(torch.tensor([[0.0, 2.0]]))
    torch.testing.assert_close(metric, torch.tensor([[0.0, 0.0], [0.0, 1.0]]))


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (torch.ones(3, 2), "all the same"),
        (torch.zeros(1, 2), "all the same"),
        (torch.tensor([[1.0, float("nan")], [0.0, 1.0]]), "not finite"),
        (torch.ones(4), "shape"),
        (torch.ones(0, 4), "shape"),
    ],
)
def test_what_is_no_head_is_refused(head: Tensor, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        head_metric(head)


def test_outputs_that_do_not_fit_are_refused() -> None:
    head = torch.eye(3)
    with pytest.raises(ValueError, match="do not fit"):
        sums_of(torch.ones(2, 4), head)
    with pytest.raises(ValueError, match="finite"):
        sums_of(torch.full((2, 3), float("inf")), head)
    with pytest.raises(ValueError, match="other inputs"):
        added(sums_of(torch.ones(2, 3), head), sums_of(torch.ones(4, 3), head))
