"""The first reading of a candidate: its content digest, its norms and its sketch, in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import isfinite, sqrt

import torch
from blake3 import blake3
from torch import Tensor

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.checkpoints.weights import WeightFiles
from mergenode.adapters.engines.local.content import weights_content
from mergenode.adapters.engines.local.incoming import Source
from mergenode.adapters.engines.local.own_files import reading_own
from mergenode.adapters.engines.local.pool.parts import Part, merged, stretches
from mergenode.adapters.engines.local.pool.sketching import SketchScheme
from mergenode.adapters.engines.local.pool.sums import GroupSums
from mergenode.adapters.engines.local.pool.task_vector import TaskVector
from mergenode.adapters.engines.local.tensors import read_slice
from mergenode.errors import RejectedError, RejectReason
from mergenode.ports.pool import WHOLE
from mergenode.types import Digest, TensorSpec


@dataclass(frozen=True, slots=True)
class Read:
    """What one reading found. ``norms``: Frobenius, by layer group and of the whole."""

    content: Digest
    norms: dict[str, float]
    sketch: Tensor


def base_part(files: WeightFiles, part: Part) -> Tensor:
    """Elements of the base in float64: (n,), new. Errors are those of the node."""
    with reading_own("base"):
        return read_slice(files, part.spec, part.start, part.stop)[0].double()


@dataclass(slots=True)
class FirstReading:
    """One pass over a candidate. ``between`` is called between two stretches and may raise."""

    vector: TaskVector
    base: BaseModel
    base_files: WeightFiles
    scheme: SketchScheme
    between: Callable[[], None]
    advanced: Callable[[int], None] = lambda nbytes: None
    """Told the bytes of ``touched`` that were gone through."""
    _hashers: dict[str, blake3] = field(default_factory=dict)
    _squares: GroupSums = field(default_factory=GroupSums)

    def read(self) -> Read:
        """Read it. Tensors that no task vector is made of (integers, second names) are read for the digest alone.

        Raises:
            RejectedError: NOT_FINITE, NORM_TOO_LARGE.
            TransientError, FatalError: a file cannot be read.
        """
        sketch = self.scheme.empty()
        for part in self._parts():
            delta = self._delta(part)
            square = torch.dot(delta, delta).item()
            if not isfinite(square):
                raise self.vector.not_finite(part)
            self._squares.add(part.spec.name, square)
            self.scheme.add(sketch, part.spec.name, part.start, delta)
            self.advanced(part.numel * part.spec.dtype.size)
        squares = self._squares.totals()
        if not isfinite(squares[WHOLE]):
            raise RejectedError(
                RejectReason.NORM_TOO_LARGE,
                f"{self.vector.label}: its update is so large that its norm overflows",
                hint="The training run diverged: push an earlier checkpoint of the run.",
            )
        norms = {group: sqrt(square) for group, square in squares.items()}
        return Read(self._content(), norms, sketch)

    @property
    def touched(self) -> list[TensorSpec]:
        """The tensors of the base that the candidate changes."""
        return [spec for spec in merged(self.base) if self.vector.touches(spec.name)]

    def _parts(self) -> Iterator[Part]:
        for stretch in stretches(self.touched):
            self.between()
            yield from stretch

    def _delta(self, part: Part) -> Tensor:
        base = base_part(self.base_files, part) if self.vector.needs_base(part.spec.name) else None
        return self.vector.delta(part, self.vector.read(part, self._seen), base)

    def _seen(self, name: str, stop: int, data: memoryview) -> None:
        self._hashers.setdefault(name, blake3()).update(data)

    def _content(self) -> Digest:
        source = Source(self.vector.contribution, 1.0, self.vector.label)
        source.digests.update({name: hasher.hexdigest() for name, hasher in self._hashers.items()})
        return weights_content(source)
