"""A combination of candidates as a checkpoint: ``base + sum_i w_i (theta_i - base)``, streamed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.checkpoints.torch_dtypes import TORCH_DTYPES
from mergenode.adapters.checkpoints.weights import WeightFiles
from mergenode.adapters.checkpoints.writer import SafetensorsWriter, header_reserve
from mergenode.adapters.engines.local.export import METADATA, SINGLE_FILE, output_spec, to_output
from mergenode.adapters.engines.local.own_files import reading_own
from mergenode.adapters.engines.local.pool.parts import PART_ELEMENTS, Part
from mergenode.adapters.engines.local.pool.reading import base_part
from mergenode.adapters.engines.local.pool.task_vector import TaskVector
from mergenode.adapters.engines.local.tensors import as_bytes, read_slice
from mergenode.ledger.groups import layer_group
from mergenode.ports.pool import WHOLE, Weights
from mergenode.types import Digest, DType, TensorSpec

Opener = Callable[[Digest], TaskVector]
"""Opens the candidate of a content, checked to be what was indexed."""

_DESCRIPTORS = 256


@dataclass(slots=True)
class OpenVectors:
    """Task vectors by content, opened when they are first wanted; those wanted longest ago are closed.

    ``descriptors``: most files that are open, unless a single candidate has more.
    """

    opener: Opener
    descriptors: int = _DESCRIPTORS
    _open: dict[Digest, TaskVector] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._open:
            self._open.popitem()[1].contribution.close()

    def get(self, content: Digest) -> TaskVector:
        """The task vector of a content; it stays open at least until the next call."""
        vector = self._open.pop(content, None)
        if vector is None:
            vector = self.opener(content)
        self._open[content] = vector
        while len(self._open) > 1 and self._descriptors() > self.descriptors:
            self._close(next(iter(self._open)))
        return vector

    def finish(self) -> None:
        """Check that nothing that is still open was written to. Raises TransientError: CHANGED_WHILE_READING."""
        for content in list(self._open):
            self._close(content)

    def _close(self, content: Digest) -> None:
        with ExitStack() as stack:
            contribution = self._open.pop(content).contribution
            stack.callback(contribution.close)
            contribution.assert_unchanged()

    def _descriptors(self) -> int:
        return sum(len(vector.contribution.weights.files) for vector in self._open.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialModel:
    """Writes one combination. ``dtype``: type of its float tensors; None: float32, float64 where the base has it.

    Memory: three parts in float64.
    """

    base: BaseModel
    base_files: WeightFiles
    weights: Weights
    vectors: OpenVectors
    dtype: DType | None
    between: Callable[[], None]

    def write(self, directory: Path) -> None:
        """One file, tensor by tensor, in the order of the base. The directory is there and empty."""
        targets = [self._target(spec) for spec in self.base.specs.values()]
        writer = SafetensorsWriter(
            directory / SINGLE_FILE, reserve=header_reserve(targets, METADATA), metadata=METADATA, durable=False
        )
        try:
            for target in targets:
                writer.allocate(target)
                self._write_tensor(writer, self.base.specs[target.name], target)
            self.vectors.finish()
            with reading_own("base"):
                self.base_files.assert_unchanged()
            writer.finish()
        finally:
            writer.close()

    def _target(self, spec: TensorSpec) -> TensorSpec:
        if self.dtype is None and spec.dtype.is_float and spec.dtype is not DType.F64:
            return output_spec(spec, DType.F32)
        return output_spec(spec, self.dtype)

    def _write_tensor(self, writer: SafetensorsWriter, spec: TensorSpec, target: TensorSpec) -> None:
        # A tied weight is combined once, whatever it is called here.
        merged = self.base.specs[self.base.aliases.get(spec.name, spec.name)]
        weights = self._weights_of(merged.name)
        for start in range(0, spec.numel, PART_ELEMENTS):
            self.between()
            stop = min(start + PART_ELEMENTS, spec.numel)
            if spec.dtype.is_float:
                values = to_output(self._combined(Part(merged, start, stop), weights), TORCH_DTYPES[target.dtype])
            else:
                with reading_own("base"):
                    values, _ = read_slice(self.base_files, spec, start, stop)
            writer.append(target.name, as_bytes(values))

    def _weights_of(self, tensor: str) -> Mapping[Digest, float]:
        found = self.weights.get(layer_group(tensor), self.weights.get(WHOLE, {}))
        return {content: weight for content, weight in found.items() if weight and content != self.base.digest}

    def _combined(self, part: Part, weights: Mapping[Digest, float]) -> Tensor:
        base = base_part(self.base_files, part)
        total = base.clone()
        for content, weight in weights.items():
            vector = self.vectors.get(content)
            if vector.touches(part.spec.name):
                delta = vector.delta(part, vector.read(part), base)
                if not bool(torch.isfinite(delta.sum())) and not bool(torch.isfinite(delta).all()):
                    raise vector.not_finite(part)
                total.add_(delta, alpha=weight)
        return total
