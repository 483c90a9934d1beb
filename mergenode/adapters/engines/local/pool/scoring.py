"""Exact scores of many candidates in one pass: gradient and base are read once per batch, each candidate once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from math import fsum, isfinite, sqrt

import torch
from torch import Tensor

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.checkpoints.weights import WeightFiles
from mergenode.adapters.engines.local.pool.gradient import Gradient
from mergenode.adapters.engines.local.pool.parts import Part, merged, stretches
from mergenode.adapters.engines.local.pool.reading import base_part
from mergenode.adapters.engines.local.pool.sums import GroupSums
from mergenode.adapters.engines.local.pool.task_vector import TaskVector
from mergenode.errors import MergenodeError
from mergenode.maths.threads import one_thread

_LEAST_RATIO = 1 / 200
"""Norm of a task vector over that of the base from which on whole weights are summed up: see ``ScoringPass``."""


@dataclass(slots=True)
class Running:
    """One candidate on its way through the pass. The first thing that goes wrong with it ends its part in it.

    ``whole``: the weights are multiplied as they are, the product of the base is subtracted.
    """

    vector: TaskVector
    sums: GroupSums
    whole: bool
    failure: MergenodeError | None = None


@dataclass(slots=True)
class _Stretch:
    """What all candidates share, in float64: gradient and, where one of them needs it, base."""

    parts: list[Part]
    gradient: list[Tensor] = field(default_factory=list)
    base: list[Tensor | None] = field(default_factory=list)
    products: list[float] = field(default_factory=list)
    """``<g, base>`` of every part."""

    @property
    def pieces(self) -> Iterator[tuple[Part, list[Part]]]:
        """Tensor by tensor: all of it that belongs to the stretch, and the parts of that."""
        for spec, found in groupby(self.parts, key=lambda part: part.spec):
            parts = list(found)
            yield Part(spec, parts[0].start, parts[-1].stop), parts


@dataclass(slots=True, kw_only=True)
class ScoringPass:
    """``a_i = <g, theta_i - base>`` per layer group, in float64.

    The difference is taken first where the task vector is short: what is summed has its size, not that of the weights.
    Where it has 1/200 of the base's norm or more, ``<g, theta_i> - <g, base>`` part by part is as good at half the
    cost: a sum of 2^17 products in 32 lanes is off by 2^12 * 2^-53 of ``||g|| ||theta_i||`` at most, so the error stays
    below 1e-10 of ``||g|| ||theta_i - base||`` (usually 1e-13); parts that were not tuned come out as 0 either way.
    One thread does it all, so sums are always the same; the system reads ahead. (A second one that reads costs more in
    handing over than it saves.)

    Memory: a stretch of base, gradient and one candidate.
    """

    base: BaseModel
    base_files: WeightFiles
    gradient: Gradient
    between: Callable[[], None]

    def start(self, vector: TaskVector, norm: float) -> Running:
        """A candidate before the pass; it will have a sum for every layer group of the gradient.

        ``norm``: of its task vector.
        """
        own = sqrt(fsum(self.base.squared_norms[spec.name] for spec in merged(self.base)))
        return Running(vector, GroupSums(self.gradient.names), norm >= _LEAST_RATIO * own)

    def run(self, batch: Sequence[Running]) -> None:
        """Score a batch whose files are open. Failures of candidates are kept with them.

        Raises TransientError, FatalError of gradient and base, and what ``between`` raises.
        """
        wanted = [
            spec for spec in self.gradient.specs(self.base) if any(item.vector.touches(spec.name) for item in batch)
        ]
        with one_thread():
            for found in stretches(wanted):
                self.between()
                stretch = _Stretch(found)
                self._read_shared(stretch, batch)
                for item in batch:
                    _add(item, stretch)

    def _read_shared(self, stretch: _Stretch, batch: Sequence[Running]) -> None:
        for part in stretch.parts:
            stretch.gradient.append(self.gradient.read(part))
            needed = any(item.vector.needs_base(part.spec.name) for item in batch)
            base = base_part(self.base_files, part) if needed else None
            stretch.base.append(base)
            stretch.products.append(0.0 if base is None else torch.dot(base, stretch.gradient[-1]).item())


def _add(item: Running, stretch: _Stretch) -> None:
    """Score one stretch of a candidate. The first thing that goes wrong with it ends its part in the pass."""
    if item.failure is not None:
        return
    try:
        values = _read(item, stretch)
        for number, (part, found) in enumerate(zip(stretch.parts, values, strict=True)):
            if not item.vector.touches(part.spec.name):
                continue
            score = _score(item, stretch, number, found)
            if not isfinite(score):
                raise item.vector.not_finite(part)
            item.sums.add(part.spec.name, score)
    except MergenodeError as error:
        item.failure = error


def _read(item: Running, stretch: _Stretch) -> list[Tensor | None]:
    """The stored elements of every part. Parts that lie together are read together."""
    found: list[Tensor | None] = []
    for piece, parts in stretch.pieces:
        values = item.vector.read(piece) if item.vector.touches(piece.spec.name) else None
        for part in parts:
            found.append(None if values is None else values[part.start - piece.start : part.stop - piece.start])
    return found


def _score(item: Running, stretch: _Stretch, number: int, values: Tensor | None) -> float:
    part, gradient = stretch.parts[number], stretch.gradient[number]
    if item.whole and values is not None and item.vector.needs_base(part.spec.name):
        return torch.dot(values.double(), gradient).item() - stretch.products[number]
    return torch.dot(item.vector.delta(part, values, stretch.base[number]), gradient).item()
