"""The merged task vector M of a merge: its norm, and M itself where computing it again would be expensive.

A scale that is chosen when a version is exported needs the norm of M first and M a second time. For tensors whose
export takes a decomposition M is written to scratch files, in accumulator dtype; the others are computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.checkpoints.weights import WeightFiles, open_weights
from mergenode.adapters.checkpoints.writer import SafetensorsWriter, header_reserve
from mergenode.adapters.engines.local.overflow import require_finite
from mergenode.adapters.engines.local.own_files import reading_own
from mergenode.adapters.engines.local.pipeline import Step
from mergenode.adapters.engines.local.statistics_files import StatisticsFiles
from mergenode.adapters.engines.local.tensors import (
    DTYPES,
    accumulator_dtype,
    as_bytes,
    needs_whole_export,
    read_slice,
    slices,
)
from mergenode.maths.norms import exact_total, squared_norm
from mergenode.methods.contract import Method
from mergenode.methods.rescale import MAGNIFICATION, at_scale, merged_update
from mergenode.types import TensorSpec


class StoredUpdates:
    """M of the tensors that were written, one scratch file open at a time. Used by one thread."""

    def __init__(self, where: Mapping[str, Path]) -> None:
        self._where = where
        self._open: tuple[Path, WeightFiles] | None = None

    def __contains__(self, tensor: str) -> bool:
        return tensor in self._where

    def read(self, tensor: str, bounds: tuple[int, int]) -> Tensor:
        """A slice of M, flat, in accumulator dtype."""
        with reading_own("merged update"):
            files = self._files(self._where[tensor])
            return read_slice(files, files.specs[tensor], *bounds)[0]

    def _files(self, path: Path) -> WeightFiles:
        if self._open is None or self._open[0] != path:
            self.close()
            self._open = path, open_weights(path)
        return self._open[1]

    def close(self) -> None:
        """Release the descriptor. Idempotent."""
        if self._open is not None:
            self._open[1].close()
            self._open = None


@dataclass(slots=True, kw_only=True)
class UpdatePass:
    """Measures M of every merged tensor and writes that of the expensive ones below ``folder``, which exists.

    Not durable: killed, it is done again.
    """

    base: BaseModel
    base_files: WeightFiles
    method: Method
    totals: Mapping[str, float]
    statistics: StatisticsFiles
    folder: Path
    device: torch.device
    advanced: Callable[[int, int], None] = lambda tensors, nbytes: None
    bytes_read: int = 0
    bytes_written: int = 0
    _squares: dict[str, list[float]] = field(default_factory=dict)
    _where: dict[str, Path] = field(default_factory=dict)
    _writers: list[SafetensorsWriter] = field(default_factory=list)

    def close(self) -> None:
        """Give back what files that were not finished hold open. Idempotent."""
        while self._writers:
            self._writers.pop().close()

    @property
    def norm(self) -> float:
        """||M|| over the whole model, tied weights once; known when all steps were run."""
        return sqrt(exact_total([part for parts in self._squares.values() for part in parts]))

    def refuse_overflow(self) -> None:
        """Raises UsageError when an M is not finite, or has no finite norm."""
        require_finite(self.method, self.totals, self._squares)

    def stored(self) -> StoredUpdates:
        return StoredUpdates(self._where)

    def steps(self) -> Iterator[Step]:
        large = at_scale(self.method, MAGNIFICATION)
        merged = [spec for spec in self.base.specs.values() if spec.name not in self.base.aliases]
        for number, spec in enumerate(merged):
            if not (spec.dtype.is_float and self.statistics.digests(spec.name)):
                continue  # M is 0 where nothing was folded
            whole = needs_whole_export(self.method, spec)
            writer = self._writer(number, spec) if whole else None
            ranges = slices(spec, whole=whole)
            for bounds in ranges:
                yield Step(
                    need_bytes=export_bytes(self.method, spec, bounds, accumulator_dtype(spec).itemsize, whole=whole),
                    read=partial(self._read, spec, bounds, whole),
                    compute=partial(self._compute, large, spec, whole),
                    write=partial(self._write, writer, spec, bounds == ranges[-1]),
                )

    def _writer(self, number: int, spec: TensorSpec) -> SafetensorsWriter:
        """A scratch file for M of one tensor."""
        path, stored = self.folder / f"update-{number:05d}.safetensors", _wide(spec)
        self._where[spec.name] = path
        writer = SafetensorsWriter(path, reserve=header_reserve([stored], {}), metadata={}, durable=False)
        self._writers.append(writer)
        writer.allocate(stored)
        return writer

    def _read(self, spec: TensorSpec, bounds: tuple[int, int], whole: bool) -> dict[str, Any]:
        with reading_own("base"):
            raw, buffer = read_slice(self.base_files, spec, *bounds)
        statistics = self.statistics.read(spec.name, None if whole else bounds)
        self.bytes_read += buffer.nbytes + sum(tensor.nbytes for tensor in statistics.values())
        return {"base": raw, "statistics": statistics}

    def _compute(self, large: Method, spec: TensorSpec, whole: bool, box: dict[str, Any]) -> tuple[float, Tensor]:
        base = box.pop("base").to(device=self.device, dtype=accumulator_dtype(spec))
        statistics = {name: tensor.to(self.device) for name, tensor in box.pop("statistics").items()}
        update = merged_update(large, spec, statistics, base.view(spec.shape) if whole else base, self.totals)
        return squared_norm(update), update.reshape(-1).cpu()

    def _write(
        self, writer: SafetensorsWriter | None, spec: TensorSpec, final: bool, result: tuple[float, Tensor]
    ) -> None:
        square, update = result
        self._squares.setdefault(spec.name, []).append(square)
        if writer is not None:  # then the tensor is whole
            writer.append(spec.name, as_bytes(update))
            writer.finish()
            self._writers.remove(writer)
            self.bytes_written += writer.bytes_written
        self.advanced(int(final), update.numel() * spec.dtype.size)


def export_bytes(method: Method, spec: TensorSpec, bounds: tuple[int, int], output: int, *, whole: bool) -> int:
    """Bytes that exporting a slice, or the ``whole`` tensor, holds at its peak.

    ``spec``: the tensor as it was folded; ``output``: bytes per element of what is written.
    """
    elements, wide = bounds[1] - bounds[0], accumulator_dtype(spec).itemsize
    per_element = spec.dtype.size + output + wide * (2 + method.state_factor(spec))
    return int(elements * per_element) + (method.bytes_to_export(spec) if whole else 0)


def _wide(spec: TensorSpec) -> TensorSpec:
    return TensorSpec(spec.name, DTYPES[accumulator_dtype(spec)], spec.shape)
