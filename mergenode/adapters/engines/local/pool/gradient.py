"""The gradient of the objective, a file that a plug-in's process wrote: checked like everything from outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.checkpoints.weights import WeightFiles, open_weights
from mergenode.adapters.engines.local.pool.parts import Part, merged
from mergenode.adapters.engines.local.tensors import read_slice
from mergenode.errors import RejectedError, TransientError, TransientReason
from mergenode.types import TensorSpec

_HINT = "The gradient is computed again; if that repeats, run `mergenode task check`."


@dataclass(frozen=True, slots=True)
class Gradient:
    """An opened gradient; its files belong to ``opened_gradient``."""

    files: WeightFiles
    names: dict[str, tuple[str, ...]]
    """By merged tensor of the base, in its order: the names under which the file has it."""

    def specs(self, base: BaseModel) -> list[TensorSpec]:
        """The merged tensors of the base that have a gradient."""
        return [spec for spec in merged(base) if spec.name in self.names]

    def read(self, part: Part) -> Tensor:
        """A part in float64: (n,), new. Raises TransientError: TASK_FAILED when it is not finite, READ_FAILED."""
        first, *others = self.names[part.spec.name]
        total = self._values(first, part)
        for name in others:
            total.add_(self._values(name, part))
        if not bool(torch.isfinite(total.sum())) and not bool(torch.isfinite(total).all()):
            refuse(f"{self.files.path.name}: tensor {first!r}: the gradient is not finite")
        return total

    def _values(self, name: str, part: Part) -> Tensor:
        spec = self.files.specs[name]
        return read_slice(self.files, spec, part.start, part.stop)[0].double()


def refuse(message: str) -> NoReturn:
    """Raises TransientError: TASK_FAILED."""
    raise TransientError(TransientReason.TASK_FAILED, message, hint=_HINT)


@contextmanager
def opened_gradient(path: Path, base: BaseModel, limits: Limits) -> Iterator[Gradient]:
    """Open a gradient and hold its header against the base.

    Raises TransientError: TASK_FAILED when it is none of this base, or was written to while it was read.
    """
    try:
        files = open_weights(path, limits=limits)
    except RejectedError as error:
        refuse(f"the gradient is not a safetensors file as it should be: {error.message}")
    with files:
        files.expect_passes()
        yield Gradient(files, _names(files, base))
        files.assert_unchanged()


def _names(files: WeightFiles, base: BaseModel) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name, spec in files.specs.items():
        wanted = base.specs.get(name)
        shown = f"{files.file_of(name)}: tensor {name!r}"
        if wanted is None or not wanted.dtype.is_float:
            refuse(f"{shown}: the base has no weight of this name")
        if spec.shape != wanted.shape or not spec.dtype.is_float:
            refuse(f"{shown}: is {spec.dtype} {list(spec.shape)}, the base has {list(wanted.shape)}")
        primary = base.aliases.get(name, name)
        found[primary] = (*found.get(primary, ()), name)
    return {spec.name: found[spec.name] for spec in merged(base) if spec.name in found}
