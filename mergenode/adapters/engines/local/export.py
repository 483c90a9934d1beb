"""The export pass: base and statistics in, a version's weight files out, in the base's own layout."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.checkpoints.torch_dtypes import TORCH_DTYPES
from mergenode.adapters.checkpoints.weights import WeightFiles, open_weights
from mergenode.adapters.checkpoints.writer import SafetensorsWriter, header_reserve
from mergenode.adapters.durable import replace_file
from mergenode.adapters.engines.local.journal import shard_file
from mergenode.adapters.engines.local.own_files import reading_own
from mergenode.adapters.engines.local.pipeline import Step
from mergenode.adapters.engines.local.shards import statistic_key
from mergenode.adapters.engines.local.tensors import accumulator_dtype, as_bytes, read_slice, slices
from mergenode.methods.contract import Method
from mergenode.types import Digest, DType, TensorSpec

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

_OPEN_SHARDS = 8


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


class StatisticsFiles:
    """The statistics of a generation, a few shards open at a time. Used by one thread."""

    def __init__(self, folder: Path, records: Mapping[int, Mapping[str, Any]]) -> None:
        self._folder = folder
        self._where = {
            name: (index, list(tensor["statistics"]))
            for index, record in records.items()
            for name, tensor in record["tensors"].items()
        }
        self._open: OrderedDict[int, WeightFiles] = OrderedDict()

    def names(self, tensor: str) -> list[str]:
        return self._where[tensor][1] if tensor in self._where else []

    def read(self, tensor: str, bounds: tuple[int, int] | None) -> dict[str, Tensor]:
        """The statistics of a slice, flat; of the whole tensor, each in its own shape, with ``bounds`` None."""
        out = {}
        for name in self.names(tensor):
            with reading_own("statistics"):
                files = self._shard(self._where[tensor][0])
                spec = files.specs[statistic_key(name, tensor)]
                flat, _ = read_slice(files, spec, *(bounds or (0, spec.numel)))
            out[name] = flat if bounds else flat.view(spec.shape)
        return out

    def _shard(self, index: int) -> WeightFiles:
        if index not in self._open:
            if len(self._open) >= _OPEN_SHARDS:
                self._open.popitem(last=False)[1].close()
            self._open[index] = open_weights(self._folder / shard_file(index))
        self._open.move_to_end(index)
        return self._open[index]

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()


@dataclass(slots=True, kw_only=True)
class ExportPass:
    """Writes the weight files of one version into ``staging``."""

    base: BaseModel
    base_files: WeightFiles
    method: Method
    totals: Mapping[str, float]
    statistics: StatisticsFiles | None
    staging: Path
    dtype: DType | None
    metadata: Mapping[str, str]
    device: torch.device
    durable: bool = True
    advanced: Callable[[int, int], None] = lambda tensors, nbytes: None
    digests: dict[str, Digest] = field(default_factory=dict)
    bytes_read: int = 0
    bytes_written: int = 0
    writers: list[SafetensorsWriter] = field(default_factory=list)

    def close(self) -> None:
        """Give back what files that were not finished hold open. Idempotent."""
        while self.writers:
            self.writers.pop().close()

    def steps(self) -> Iterator[Step]:
        for file, output in output_files(self.base_files).items():
            members = [spec for name, spec in self.base.specs.items() if self.base_files.file_of(name) == file]
            # Wide types first (stable, so a no-op for a base that is laid out so): every tensor starts aligned.
            members.sort(key=lambda spec: -output_spec(spec, self.dtype).dtype.size)
            outputs = [output_spec(spec, self.dtype) for spec in members]
            writer = SafetensorsWriter(
                self.staging / output,
                reserve=header_reserve(outputs, self.metadata),
                metadata=self.metadata,
                durable=self.durable,
            )
            self.writers.append(writer)
            if not members:
                writer.finish()
            for spec, target in zip(members, outputs, strict=True):
                yield from self._tensor(writer, spec, target, last=spec is members[-1])

    def _tensor(self, writer: SafetensorsWriter, spec: TensorSpec, target: TensorSpec, *, last: bool) -> Iterator[Step]:
        merged, known = spec.dtype.is_float and self.statistics is not None, self._as_merged(spec)
        whole = merged and not (self.method.elementwise(known) or self.method.export_elementwise)
        ranges = slices(spec, whole=whole)
        wide = accumulator_dtype(spec).itemsize if spec.dtype.is_float else spec.dtype.size
        for bounds in ranges:
            final = bounds == ranges[-1]
            elements = bounds[1] - bounds[0]
            per_element = spec.dtype.size + target.dtype.size + wide * (2 + self.method.state_factor(known))
            yield Step(
                need_bytes=int(elements * per_element) + (self.method.working_bytes(known) if whole else 0),
                read=partial(self._read, spec, bounds, whole),
                compute=partial(self._compute, spec, target, whole),
                write=partial(self._write, writer, target, final, last and final),
            )

    def _as_merged(self, spec: TensorSpec) -> TensorSpec:
        """The tensor under the name that it was folded by: a tied weight is merged once, whatever it is called here."""
        return self.base.specs[self.base.aliases.get(spec.name, spec.name)]

    def _read(self, spec: TensorSpec, bounds: tuple[int, int], whole: bool) -> dict[str, Any]:
        with reading_own("base"):
            raw, buffer = read_slice(self.base_files, spec, *bounds)
        box: dict[str, Any] = {"base": raw, "statistics": {}}
        self.bytes_read += buffer.nbytes
        if self.statistics is not None and spec.dtype.is_float:
            primary = self.base.aliases.get(spec.name, spec.name)
            box["statistics"] = self.statistics.read(primary, None if whole else bounds)
            self.bytes_read += sum(tensor.nbytes for tensor in box["statistics"].values())
        return box

    def _compute(self, spec: TensorSpec, target: TensorSpec, whole: bool, box: dict[str, Any]) -> Tensor:
        raw = box.pop("base")
        statistics = {name: tensor.to(self.device) for name, tensor in box.pop("statistics").items()}
        return export_slice(self.method, self._as_merged(spec), target, raw, statistics, self.totals, whole=whole)

    def _write(self, writer: SafetensorsWriter, target: TensorSpec, final: bool, last: bool, data: Tensor) -> None:
        if target.name not in writer.regions:
            writer.allocate(target)
        writer.append(target.name, as_bytes(data))
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
) -> Tensor:  # fmt: skip
    """Published values of a slice on the CPU, in the published type. Without statistics: the base's own values.

    ``base``: ``raw`` in accumulator dtype where the caller has it already. Takes ownership of all tensors.
    """
    dtype = TORCH_DTYPES[target.dtype]
    if not statistics:
        return raw if raw.dtype is dtype else to_output(raw, dtype)
    if base is None:
        base = raw.to(device=next(iter(statistics.values())).device, dtype=accumulator_dtype(spec))
    weights = method.export(spec, statistics, base.view(spec.shape) if whole else base, totals)
    return to_output(weights.reshape(-1), dtype)
