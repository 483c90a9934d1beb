"""Calibration batches of a plug-in: how many, handed to a model, cut into examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from torch import Tensor, nn

from mergenode.adapters.tasks.failure import Failure

_CUT_HINT = (
    "Make it a tensor, or a tuple, list or mapping of tensors with the examples first; or batches of one example."
)


def first_batches(given: object, most: int | None) -> Iterator[Any]:
    """At most ``most`` batches of what ``calibration_batches()`` returned. Raises Failure: ``invalid``."""
    if not isinstance(given, Iterable):
        raise Failure("invalid", f"calibration_batches() returned {type(given).__name__}", "It has to yield batches.")
    return islice(given, most)


def expected(given: object, most: int | None) -> int:
    """How many batches there will be, 0 when nobody knows."""
    known = len(given) if hasattr(given, "__len__") else None
    return min((number for number in (known, most) if number is not None), default=0)


def hand_over(model: nn.Module, batch: Any) -> Any:
    """The model's answer to a batch: a mapping as keywords, a tuple or list as arguments."""
    if isinstance(batch, Mapping):
        return model(**batch)
    if isinstance(batch, tuple | list):
        return model(*batch)
    return model(batch)


def size_of(batch: Any) -> int | None:
    """The number of examples of a batch, None when it cannot be told."""
    sizes = {len(tensor) if tensor.ndim else None for tensor in _tensors(batch)}
    return sizes.pop() if len(sizes) == 1 else None


def examples_of(batch: Any, most: int | None = None) -> list[Any]:
    """Batches of one example each, the first ``most`` of a batch, views of it. Raises Failure: ``invalid``."""
    size = size_of(batch)
    plain = all(isinstance(leaf, Tensor) for leaf in _leaves(batch))
    if size is None or not (plain or size == 1):
        raise Failure("invalid", "a batch of calibration_batches() cannot be cut into examples", _CUT_HINT)
    if size == 1:
        return [batch]
    return [_part(batch, slice(number, number + 1)) for number in range(min(size, most or size))]


def _part(batch: Any, which: slice) -> Any:
    if isinstance(batch, Tensor):
        return batch[which]
    if isinstance(batch, Mapping):
        return {name: _part(value, which) for name, value in batch.items()}
    parts = [_part(value, which) for value in batch]
    return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)


def _leaves(batch: Any) -> Iterator[Any]:
    if isinstance(batch, Mapping):
        for value in batch.values():
            yield from _leaves(value)
    elif isinstance(batch, tuple | list):
        for value in batch:
            yield from _leaves(value)
    else:
        yield batch


def _tensors(batch: Any) -> Iterator[Tensor]:
    return (leaf for leaf in _leaves(batch) if isinstance(leaf, Tensor))
