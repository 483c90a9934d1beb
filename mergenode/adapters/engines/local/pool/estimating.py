"""Scores by sketches: the gradient is sketched once, then every stored sketch is one row of a product."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from math import isfinite, sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.engines.local.pool.gradient import Gradient, refuse
from mergenode.adapters.engines.local.pool.parts import stretches
from mergenode.adapters.engines.local.pool.sketching import SketchScheme
from mergenode.adapters.engines.local.pool.sums import GroupSums
from mergenode.adapters.store.pool_files import Stored
from mergenode.ledger.groups import layer_group
from mergenode.ports.pool import WHOLE, Estimate
from mergenode.types import Digest

_BLOCK = 16
"""Sketches that are in memory at once, of 512 KiB each in float32."""


@dataclass(frozen=True, slots=True)
class GradientSketch:
    """Sketches of the gradient by layer group, (groups, m) float32, and its norms there. ``groups[0]`` is ``WHOLE``."""

    groups: list[str]
    norms: list[float]
    values: Tensor


def sketch_of(
    gradient: Gradient, base: BaseModel, scheme: SketchScheme, between: Callable[[], None], *, groups: bool
) -> GradientSketch:
    """Read the gradient once. ``groups``: with a sketch for every layer group, of half a MiB each.

    Raises TransientError: TASK_FAILED when it is not finite.
    """
    sketches = {WHOLE: scheme.empty()}
    squares = GroupSums()
    for stretch in stretches(gradient.specs(base)):
        between()
        for part in stretch:
            values = gradient.read(part)
            squares.add(part.spec.name, torch.dot(values, values).item())
            group = layer_group(part.spec.name) if groups else WHOLE
            if group not in sketches:
                sketches[group] = scheme.empty()
            scheme.add(sketches[group], part.spec.name, part.start, values)
    for group, sketch in sketches.items():
        if group != WHOLE:
            sketches[WHOLE] += sketch
    totals = squares.totals()
    if not isfinite(totals[WHOLE]):
        refuse(f"{gradient.files.path.name}: the gradient is so large that its norm overflows")
    norms = [sqrt(totals[group]) for group in sketches]
    return GradientSketch(list(sketches), norms, torch.stack(list(sketches.values())).float())


def estimated(
    sketch: GradientSketch, stored: Iterable[tuple[Digest, Stored]], scheme: SketchScheme
) -> Iterator[tuple[Digest, Mapping[str, Estimate]]]:
    """Estimates by layer group for every stored sketch, a block of sketches in memory at a time."""
    waiting = iter(stored)
    while block := list(islice(waiting, _BLOCK)):
        levels = np.stack([np.frombuffer(item.data, dtype=np.int8) for _, item in block])
        products = (torch.from_numpy(levels).float() @ sketch.values.mT).tolist()
        for (content, item), row in zip(block, products, strict=True):
            yield content, _estimates(sketch, item.facts, row, scheme)


def _estimates(
    sketch: GradientSketch, facts: Mapping[str, Any], products: list[float], scheme: SketchScheme
) -> dict[str, Estimate]:
    step, norm = float.fromhex(facts["step"]), float.fromhex(facts["norm"])
    found = {}
    for group, length, product in zip(sketch.groups, sketch.norms, products, strict=True):
        value = step * product
        found[group] = Estimate(value, scheme.error((length, norm), value, step))
    return found
