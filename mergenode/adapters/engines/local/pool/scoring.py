"""Exact scores of many candidates in one pass: gradient and base are read once per batch, each candidate once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import isfinite

import torch
from torch import Tensor

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.checkpoints.weights import WeightFiles
from mergenode.adapters.engines.local.pipeline import Step, run_ordered
from mergenode.adapters.engines.local.pool.gradient import Gradient
from mergenode.adapters.engines.local.pool.parts import STRETCH_ELEMENTS, Part, stretches
from mergenode.adapters.engines.local.pool.reading import base_part
from mergenode.adapters.engines.local.pool.sums import GroupSums
from mergenode.adapters.engines.local.pool.task_vector import TaskVector
from mergenode.errors import MergenodeError
from mergenode.maths.threads import one_thread

_IN_FLIGHT = 8 * STRETCH_ELEMENTS * 4
"""Bytes of what is read ahead: four stretches in float64."""


@dataclass(slots=True)
class Running:
    """One candidate on its way through the pass. The first thing that goes wrong with it ends its part in it."""

    vector: TaskVector
    sums: GroupSums
    failure: MergenodeError | None = None


@dataclass(slots=True)
class _Stretch:
    """What all candidates share, in float64: gradient and, where one of them needs it, base."""

    parts: list[Part]
    gradient: list[Tensor] = field(default_factory=list)
    base: list[Tensor | None] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class ScoringPass:
    """``a_i = <g, theta_i - base>`` per layer group, in float64.

    The difference is taken first, so what is summed has the size of the task vector, not of the weights: the error
    stays below 1e-12 of ``||g|| ||theta_i - base||``. One thread reads, one computes: sums are always the same.

    Memory: a stretch of base and gradient, and a few stretches of candidates that were read ahead.
    """

    base: BaseModel
    base_files: WeightFiles
    gradient: Gradient
    between: Callable[[], None]

    def start(self, vector: TaskVector) -> Running:
        """A candidate before the pass; it will have a sum for every layer group of the gradient."""
        return Running(vector, GroupSums(self.gradient.names))

    def run(self, batch: Sequence[Running]) -> None:
        """Score a batch whose files are open. Failures of candidates are kept with them.

        Raises TransientError, FatalError of gradient and base, and what ``between`` raises.
        """
        with one_thread():
            run_ordered(self._steps(batch), threads=1, budget_bytes=_IN_FLIGHT)

    def _steps(self, batch: Sequence[Running]) -> Iterator[Step]:
        wanted = [
            spec for spec in self.gradient.specs(self.base) if any(item.vector.touches(spec.name) for item in batch)
        ]
        for found in stretches(wanted):
            self.between()
            stretch = _Stretch(found)
            size = sum(part.numel for part in found)
            yield Step(16 * size, partial(self._read_shared, stretch, batch), lambda box: None, _ignore)
            for item in batch:
                yield Step(8 * size, partial(_read, item, stretch), partial(_compute, item, stretch), _ignore)

    def _read_shared(self, stretch: _Stretch, batch: Sequence[Running]) -> None:
        for part in stretch.parts:
            stretch.gradient.append(self.gradient.read(part))
            needed = any(item.vector.needs_base(part.spec.name) for item in batch)
            stretch.base.append(base_part(self.base_files, part) if needed else None)


def _ignore(result: None) -> None:
    """Nothing is written."""


def _read(item: Running, stretch: _Stretch) -> list[Tensor | None] | None:
    if item.failure is not None:
        return None
    try:
        return [item.vector.read(part) if item.vector.touches(part.spec.name) else None for part in stretch.parts]
    except MergenodeError as error:
        item.failure = error
        return None


def _compute(item: Running, stretch: _Stretch, values: list[Tensor | None] | None) -> None:
    if values is None or item.failure is not None:
        return
    vector = item.vector
    for part, found, gradient, base in zip(stretch.parts, values, stretch.gradient, stretch.base, strict=True):
        if not vector.touches(part.spec.name):
            continue
        try:
            score = torch.dot(vector.delta(part, found, base), gradient).item()
        except MergenodeError as error:
            item.failure = error
            return
        if not isfinite(score):
            item.failure = vector.not_finite(part)
            return
        item.sums.add(part.spec.name, score)
