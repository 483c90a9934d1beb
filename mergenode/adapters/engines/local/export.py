"""The export pass: base and statistics in, a version's weight files out, in the base's own layout."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.checkpoints.torch_dtypes import TORCH_DTYPES
from mergenode.adapters.checkpoints.weights import WeightFiles
from mergenode.adapters.checkpoints.writer import SafetensorsWriter, header_reserve
from mergenode.adapters.durable import replace_file
from mergenode.adapters.engines.local.overflow import require_finite
from mergenode.adapters.engines.local.own_files import reading_own
from mergenode.adapters.engines.local.pipeline import Step
from mergenode.adapters.engines.local.reuse import ExportedTensor, NotAsRemembered, Reuse, link_file
from mergenode.adapters.engines.local.statistics_files import StatisticsFiles
from mergenode.adapters.engines.local.tensors import (
    accumulator_dtype,
    as_bytes,
    needs_whole_export,
    read_slice,
    slices,
)
from mergenode.adapters.engines.local.updates import StoredUpdates, export_bytes
from mergenode.errors import MergenodeError
from mergenode.maths.distance import squared_distance
from mergenode.maths.norms import exact_total
from mergenode.methods.contract import Method
from mergenode.types import Digest, DType, TensorSpec

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

METADATA = {"format": "pt"}
"""Says nothing about the version: a file that does not change keeps its bytes, and may be shared."""


def output_files(base_files: WeightFiles) -> dict[str, str]:
    """Output file name per base file: the same, except that a bare file becomes the name every tool looks for."""
    names = base_files.files
    return {name: name if len(names) > 1 else SINGLE_FILE for name in names}


def output_spec(spec: TensorSpec, dtype: DType | None) -> TensorSpec:
    """The tensor as published: floating-point types follow ``publish.dtype``, everything else stays."""
    return TensorSpec(spec.name, dtype, spec.shape) if dtype is not None and spec.dtype.is_float else spec


def to_output(weights: Tensor, dtype: torch.dtype) -> Tensor:
    """Round to the published type, overwriting ``weights``.

    What is too large for it saturates: masks of -3.4e38 exist, infinities must not.
    """
    largest = torch.finfo(dtype).max
    if largest < torch.finfo(weights.dtype).max:
        weights.clamp_(-largest, largest)
    return weights.to(dtype=dtype, device="cpu")


@dataclass(slots=True, kw_only=True)
class ExportPass:
    """Writes the weight files of one version into ``staging``.

    ``method`` exports at the scale of the version. ``updates``: M of tensors that is known already, and enters times
    ``scale``. ``reuse``: what the version before shares with this one, by ``keys``.
    """

    base: BaseModel
    base_files: WeightFiles
    method: Method
    totals: Mapping[str, float]
    statistics: StatisticsFiles | None
    staging: Path
    dtype: DType | None
    device: torch.device
    durable: bool = True
    scale: float = 1.0
    updates: StoredUpdates | None = None
    reuse: Reuse | None = None
    keys: Mapping[str, str] = field(default_factory=dict)
    advanced: Callable[[int, int], None] = lambda tensors, nbytes: None
    digests: dict[str, Digest] = field(default_factory=dict)
    squares: dict[str, list[float]] = field(default_factory=dict)
    reused: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    writers: list[SafetensorsWriter] = field(default_factory=list)

    def close(self) -> None:
        """Give back what files that were not finished hold open. Idempotent."""
        while self.writers:
            self.writers.pop().close()

    @property
    def update_norm(self) -> float:
        """||published - base|| over the merged tensors, tied ones once, before rounding to the published type."""
        own = (parts for name, parts in self.squares.items() if name not in self.base.aliases)
        return sqrt(exact_total([exact_total(parts) for parts in own]))

    def refuse_overflow(self) -> None:
        """Call off what was written when its values, or their distance from the base, are not finite.

        Raises:
            UsageError: the message names tensor, method and scale. Contributions are finite and bounded, so that the
            factors of the method did it.
        """
        require_finite(self.method, self.totals, self.squares)

    def steps(self) -> Iterator[Step]:
        for output, members in self.members().items():
            outputs = [output_spec(spec, self.dtype) for spec in members]
            place = self.staging / output
            place.unlink(missing_ok=True)  # a second name of a published file must never be written through
            if self._linked(output, place, outputs):
                continue
            writer = SafetensorsWriter(
                place, reserve=header_reserve(outputs, METADATA), metadata=METADATA, durable=self.durable
            )
            self.writers.append(writer)
            if not members:
                writer.finish()
            for spec, target in zip(members, outputs, strict=True):
                known = self.reuse.take(target, self.keys[target.name], output) if self.reuse is not None else None
                last = spec is members[-1]
                if known is not None:
                    yield from self._copy(writer, target, output, known, last=last)
                else:
                    yield from self._tensor(writer, spec, target, last=last)

    def members(self) -> dict[str, list[TensorSpec]]:
        """The base's tensors by output file, in the order in which they are written."""
        found: dict[str, list[TensorSpec]] = {}
        for file, output in output_files(self.base_files).items():
            inside = [spec for name, spec in self.base.specs.items() if self.base_files.file_of(name) == file]
            # Wide types first (stable, so a no-op for a base that is laid out so): every tensor starts aligned.
            found[output] = sorted(inside, key=lambda spec: -output_spec(spec, self.dtype).dtype.size)
        return found

    def _linked(self, output: str, place: Path, targets: list[TensorSpec]) -> bool:
        """Take over a whole file when nothing in it changed."""
        if self.reuse is None or not self.reuse.whole_file(output, targets, self.keys):
            return False
        if not link_file(self.reuse.folder / output, place):
            return False
        for target in targets:
            self._take(target.name, self.reuse.tensors[target.name])
        self.advanced(len(targets), sum(target.nbytes for target in targets))
        return True

    def _take(self, name: str, known: ExportedTensor) -> None:
        self.digests[name], self.squares[name] = known.digest, [known.square]
        self.reused += 1

    def _copy(
        self, writer: SafetensorsWriter, target: TensorSpec, output: str, known: ExportedTensor, *, last: bool
    ) -> Iterator[Step]:
        """The bytes of a tensor that did not change, out of the version before."""
        ranges = slices(target, whole=False)
        for bounds in ranges:
            final = bounds == ranges[-1]
            yield Step(
                need_bytes=(bounds[1] - bounds[0]) * target.dtype.size,
                read=partial(self._read_again, target, output, bounds),
                compute=lambda data: data,
                write=partial(self._write_again, writer, target, known, final, last and final),
            )

    def _read_again(self, target: TensorSpec, output: str, bounds: tuple[int, int]) -> Tensor:
        assert self.reuse is not None
        try:
            data, buffer = read_slice(self.reuse.files[output], target, *bounds)
        except MergenodeError as error:
            raise NotAsRemembered(error.message) from error
        self.bytes_read += buffer.nbytes
        return data

    def _write_again(
        self,
        writer: SafetensorsWriter,
        target: TensorSpec,
        known: ExportedTensor,
        final: bool,
        last: bool,
        data: Tensor,
    ) -> None:
        self._write(writer, target, final, last, (data, 0.0))
        if final and self.digests[target.name] != known.digest:
            raise NotAsRemembered(f"{writer.path.name}: tensor {target.name!r} is not what was published")
        if final:
            self._take(target.name, known)

    def _tensor(self, writer: SafetensorsWriter, spec: TensorSpec, target: TensorSpec, *, last: bool) -> Iterator[Step]:
        known = self._as_merged(spec)
        stored = self.updates is not None and known.name in self.updates and spec.dtype.is_float
        moved = self.statistics is not None and bool(self.statistics.digests(known.name))
        whole = moved and not stored and needs_whole_export(self.method, known)
        ranges = slices(spec, whole=whole)
        for bounds in ranges:
            final = bounds == ranges[-1]
            yield Step(
                need_bytes=self.need_bytes(spec, bounds, whole=whole),
                read=partial(self._read, spec, bounds, whole, stored),
                compute=partial(self._scaled if stored else self._compute, spec, target, whole),
                write=partial(self._write, writer, target, final, last and final),
            )

    def need_bytes(self, spec: TensorSpec, bounds: tuple[int, int], *, whole: bool) -> int:
        """Bytes a step holds at its peak: what is read, what is written, and what the method takes in between."""
        known, target = self._as_merged(spec), output_spec(spec, self.dtype)
        if not spec.dtype.is_float:
            return 2 * (bounds[1] - bounds[0]) * spec.dtype.size
        return export_bytes(self.method, known, bounds, target.dtype.size, whole=whole)

    def _as_merged(self, spec: TensorSpec) -> TensorSpec:
        """The tensor under the name that it was folded by: a tied weight is merged once, whatever it is called here."""
        return self.base.specs[self.base.aliases.get(spec.name, spec.name)]

    def _read(self, spec: TensorSpec, bounds: tuple[int, int], whole: bool, stored: bool = False) -> dict[str, Any]:
        with reading_own("base"):
            raw, buffer = read_slice(self.base_files, spec, *bounds)
        box: dict[str, Any] = {"base": raw, "statistics": {}}
        self.bytes_read += buffer.nbytes
        primary = self.base.aliases.get(spec.name, spec.name)
        if stored and self.updates is not None:
            box["update"] = self.updates.read(primary, bounds)
            self.bytes_read += box["update"].nbytes
        elif self.statistics is not None and spec.dtype.is_float:
            box["statistics"] = self.statistics.read(primary, None if whole else bounds)
            self.bytes_read += sum(tensor.nbytes for tensor in box["statistics"].values())
        return box

    def _compute(self, spec: TensorSpec, target: TensorSpec, whole: bool, box: dict[str, Any]) -> tuple[Tensor, float]:
        raw = box.pop("base")
        statistics = {name: tensor.to(self.device) for name, tensor in box.pop("statistics").items()}
        return export_slice(self.method, self._as_merged(spec), target, raw, statistics, self.totals, whole=whole)

    def _scaled(self, spec: TensorSpec, target: TensorSpec, whole: bool, box: dict[str, Any]) -> tuple[Tensor, float]:
        """``base + scale * M``: multiplied and added separately, never fused."""
        base = box.pop("base").to(accumulator_dtype(spec))
        weights = box.pop("update").mul_(self.scale).add_(base)
        square = squared_distance(weights, base)
        return to_output(weights, TORCH_DTYPES[target.dtype]), square

    def _write(
        self, writer: SafetensorsWriter, target: TensorSpec, final: bool, last: bool, result: tuple[Tensor, float]
    ) -> None:
        data, square = result
        if target.name not in writer.regions:
            writer.allocate(target)
        writer.append(target.name, as_bytes(data))
        self.squares.setdefault(target.name, []).append(square)
        self.advanced(int(final), data.nbytes)
        if final:
            self.digests[target.name] = writer.regions[target.name].digest
        if last:
            writer.finish()
            self.bytes_written += writer.bytes_written

    def write_index(self) -> None:
        """The index of a sharded version. Durable on return."""
        outputs = output_files(self.base_files)
        specs = [output_spec(spec, self.dtype) for spec in self.base.specs.values()]
        index = {
            "metadata": {"total_size": sum(spec.nbytes for spec in specs)},
            "weight_map": {spec.name: outputs[self.base_files.file_of(spec.name)] for spec in specs},
        }
        replace_file(self.staging / (self.base_files.index or INDEX_FILE), json.dumps(index, indent=2).encode() + b"\n")


def export_slice(
    method: Method, spec: TensorSpec, target: TensorSpec, raw: Tensor, statistics: Mapping[str, Tensor],
    totals: Mapping[str, float], *, whole: bool, base: Tensor | None = None,
) -> tuple[Tensor, float]:  # fmt: skip
    """Published values of a slice on the CPU, in the published type, and ||values - base||^2 before they were rounded.

    Without statistics: the base's own values.

    ``base``: ``raw`` in accumulator dtype where the caller has it already. Takes ownership of all tensors.
    """
    dtype = TORCH_DTYPES[target.dtype]
    if not statistics:
        return (raw if raw.dtype is dtype else to_output(raw, dtype)), 0.0
    if base is None:
        base = raw.to(device=next(iter(statistics.values())).device, dtype=accumulator_dtype(spec))
    weights = method.export(spec, statistics, base.view(spec.shape) if whole else base, totals).reshape(-1)
    square = squared_distance(weights, base.reshape(-1))  # first: rounding may overwrite
    return to_output(weights, dtype), square
