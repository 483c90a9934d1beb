"""What changed between two versions, streamed: per layer group, never a whole model in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from math import sqrt

import torch

from mergenode.adapters.checkpoints.weights import WeightFiles
from mergenode.adapters.engines.local.tensors import read_slice, slices
from mergenode.errors import UsageError
from mergenode.ledger.groups import layer_group
from mergenode.maths.norms import inner, squared_norm


@dataclass(slots=True)
class GroupChange:
    """How one layer group differs. Norms are Frobenius, weight units; ``None`` when a norm is zero."""

    group: str
    parameters: int = 0
    first_sq: float = 0.0
    second_sq: float = 0.0
    change_sq: float = 0.0
    dot: float = 0.0

    @property
    def first_norm(self) -> float:
        """Distance of the first version from the base."""
        return sqrt(self.first_sq)

    @property
    def second_norm(self) -> float:
        """Distance of the second version from the base."""
        return sqrt(self.second_sq)

    @property
    def change_norm(self) -> float:
        """Distance between the two versions."""
        return sqrt(self.change_sq)

    @property
    def cosine(self) -> float | None:
        """Angle between the two versions' deltas to the base: 1 = same direction."""
        scale = self.first_norm * self.second_norm
        return self.dot / scale if scale else None


def compare(
    base: WeightFiles,
    first: WeightFiles,
    second: WeightFiles,
    advance: Callable[[int], None] = lambda nbytes: None,
    *,
    aliases: Collection[str] = (),
) -> list[GroupChange]:
    """Changes of the whole model (group ``*``) and of every layer group, in model order.

    ``aliases``: second names of tied weights, which count once.

    Raises:
        UsageError: the checkpoints do not have the same tensors and shapes.
    """
    groups: dict[str, GroupChange] = {"*": GroupChange("*")}
    for name, spec in base.specs.items():
        if not spec.dtype.is_float or name in aliases:
            continue
        for other in (first, second):
            if name not in other.specs or other.specs[name].shape != spec.shape:
                raise UsageError(
                    f"{other.path}: tensor {name!r} is missing or has another shape than in {base.path}",
                    hint="Compare versions of one base, and name that base.",
                )
        group = groups.setdefault(layer_group(name), GroupChange(layer_group(name)))
        for start, stop in slices(spec, whole=False):
            b, x, y = (
                read_slice(files, files.specs[name], start, stop)[0].to(torch.float32)
                for files in (base, first, second)
            )
            sums = squared_norm(x - b), squared_norm(y - b), squared_norm(y - x), inner(x - b, y - b)
            for change in (groups["*"], group):
                change.first_sq += sums[0]
                change.second_sq += sums[1]
                change.change_sq += sums[2]
                change.dot += sums[3]
                change.parameters += stop - start
            advance(3 * spec.dtype.size * (stop - start))
    return list(groups.values())
