"""Batches of every shape that plug-ins like: counted, handed over, cut into examples."""

from __future__ import annotations

from collections import UserDict
from itertools import count
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from mergenode.adapters.tasks.batches import examples_of, expected, first_batches, hand_over, size_of
from mergenode.adapters.tasks.failure import Failure


class Pair(NamedTuple):
    inputs: Tensor
    labels: Tensor


def flat(batch: Any) -> list[list[float]]:
    """All tensors of a batch of one example, in order, as lists."""
    if isinstance(batch, Tensor):
        return [batch.flatten().tolist()]
    values = batch.values() if isinstance(batch, dict) else batch
    return [found for value in values for found in flat(value)]


INPUTS, LABELS = torch.arange(6.0).reshape(3, 2), torch.tensor([7.0, 8.0, 9.0])


@pytest.mark.parametrize(
    "batch",
    [
        (INPUTS, LABELS),
        [INPUTS, LABELS],
        Pair(INPUTS, LABELS),
        {"inputs": INPUTS, "labels": LABELS},
        UserDict({"inputs": INPUTS, "labels": LABELS}),
        ({"inputs": INPUTS}, LABELS),
    ],
    ids=lambda batch: type(batch).__name__,
)
def test_a_batch_is_cut_into_examples(batch: Any) -> None:
    assert size_of(batch) == 3
    assert [flat(one) for one in examples_of(batch)] == [[[0, 1], [7]], [[2, 3], [8]], [[4, 5], [9]]]
    assert len(examples_of(batch, 2)) == 2
    assert isinstance(examples_of(batch)[0], Pair) is isinstance(batch, Pair)


def test_a_batch_of_one_example_may_hold_anything() -> None:
    batch = {"inputs": INPUTS[:1], "text": "any", "more": object()}
    assert examples_of(batch) == [batch]


@pytest.mark.parametrize(
    "batch", [(INPUTS, LABELS[:2]), {"inputs": INPUTS, "text": ["a", "b", "c"]}, "text", (), torch.tensor(1.0)]
)
def test_what_cannot_be_cut_is_told(batch: Any) -> None:
    with pytest.raises(Failure, match="cannot be cut into examples") as caught:
        examples_of(batch)
    assert "one example" in caught.value.hint


def test_batches_that_never_end_are_cut_off() -> None:
    assert list(first_batches(count(), 3)) == [0, 1, 2]
    assert (expected(count(), 3), expected(count(), None)) == (3, 0)
    assert (expected([1, 2], 3), expected([1, 2], None), expected([1, 2], 1)) == (2, 2, 1)
    with pytest.raises(Failure, match="NoneType"):
        first_batches(None, 3)


def test_a_batch_is_handed_to_the_model() -> None:
    class Answers(nn.Module):
        def forward(self, *arguments: object, **keywords: object) -> tuple[object, ...]:
            return (arguments, keywords)

    assert hand_over(Answers(), {"a": 1}) == ((), {"a": 1})
    assert hand_over(Answers(), (1, 2)) == ((1, 2), {})
    assert hand_over(Answers(), [1, 2]) == ((1, 2), {})
    assert hand_over(Answers(), INPUTS)[0][0] is INPUTS
