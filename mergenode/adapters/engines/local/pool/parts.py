"""The base's merged tensors cut into parts: what is in memory of one model at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.types import TensorSpec

PART_ELEMENTS = 1 << 17
"""Elements of a part. Fixed: sums depend on where parts end. Three fp64 buffers of it stay in the cache of a core."""

STRETCH_ELEMENTS = 1 << 20
"""Elements that are read of one candidate before the next one has its turn: one step of a pass, 2 MiB of bf16."""


class Part(NamedTuple):
    """Elements ``start`` to ``stop`` of a flattened tensor of the base."""

    spec: TensorSpec
    start: int
    stop: int

    @property
    def numel(self) -> int:
        return self.stop - self.start


def merged(base: BaseModel) -> list[TensorSpec]:
    """What a task vector consists of: floating-point tensors, tied ones once, in the order of the base's files."""
    return [spec for spec in base.specs.values() if spec.dtype.is_float and spec.name not in base.aliases]


def parts(spec: TensorSpec) -> Iterator[Part]:
    """The parts of one tensor; none of a tensor without elements."""
    for start in range(0, spec.numel, PART_ELEMENTS):
        yield Part(spec, start, min(start + PART_ELEMENTS, spec.numel))


def stretches(specs: Iterable[TensorSpec]) -> Iterator[list[Part]]:
    """All parts of these tensors in order, as many together as fit into a stretch."""
    found: list[Part] = []
    size = 0
    for spec in specs:
        for part in parts(spec):
            if found and size + part.numel > STRETCH_ELEMENTS:
                yield found
                found, size = [], 0
            found.append(part)
            size += part.numel
    if found:
        yield found
