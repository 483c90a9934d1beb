"""Statistics shards: how the tensors of a base are cut into durable pieces of work, and how one piece is written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.checkpoints.writer import SafetensorsWriter, header_reserve
from mergenode.adapters.engines.local.journal import shard_file, write_record
from mergenode.adapters.engines.local.tensors import DTYPES, accumulator_dtype, as_bytes
from mergenode.maths.norms import exact_total
from mergenode.types import TensorSpec

SHARD_BYTES = 16 << 20
"""Weights per shard, in accumulator dtype. Larger tensors have a shard of their own. The cut is the same for every
method, and the largest statistics are about four times as large: so a kill costs 64 MiB of them at most."""

_STATISTICS_PER_TENSOR = 4
"""Header space is reserved for this many statistics per tensor."""


def shard_layout(base: BaseModel) -> list[list[TensorSpec]]:
    """Merged tensors (floating point, tied ones once) in the order of the base's files, cut into shards."""
    layout: list[list[TensorSpec]] = []
    size = 0
    for spec in base.specs.values():
        if not spec.dtype.is_float or spec.name in base.aliases:
            continue
        nbytes = spec.numel * accumulator_dtype(spec).itemsize
        if not layout or size + nbytes > SHARD_BYTES:
            layout.append([])
            size = 0
        layout[-1].append(spec)
        size += nbytes
    return layout


def statistic_key(statistic: str, tensor: str) -> str:
    """Name of a statistic inside a shard file; statistics have no dots in their names."""
    return f"{statistic}.{tensor}"


class TensorRecord:
    """What the fold of one tensor adds up to, per contribution, slice after slice."""

    def __init__(self, sources: int, before_sq: float) -> None:
        self.sums: list[dict[str, list[float]]] = [{} for _ in range(sources)]
        self.observed: list[dict[str, float]] = [{} for _ in range(sources)]
        self.before_sq = before_sq

    def add(self, source: int, sums: Mapping[str, float], observed: Mapping[str, float]) -> None:
        for name, value in sums.items():
            self.sums[source].setdefault(name, []).append(value)
        self.observed[source].update(observed)

    def finish(self) -> list[dict[str, Any]]:
        """Per contribution: sums over the slices; a contribution that does not touch the tensor keeps its norm."""
        merge_sq: float | None = self.before_sq
        out: list[dict[str, Any]] = []
        for parts, observed in zip(self.sums, self.observed, strict=True):
            sums = {name: exact_total(values) for name, values in parts.items()}
            if not parts:
                sums = {"delta_sq": 0.0, "kept_sq": 0.0, "dot": 0.0}
                if merge_sq is not None:
                    sums["merge_sq"] = merge_sq
            if merge_sq is not None:
                sums["before_sq"] = merge_sq
                if "dot" not in sums and "merge_sq" in sums:
                    # |S + d|^2 = |S|^2 + 2 <S, d> + |d|^2
                    sums["dot"] = (sums["merge_sq"] - merge_sq - sums["delta_sq"]) / 2
            merge_sq = sums.get("merge_sq")
            out.append({"sums": sums, "observed": observed})
        return out


class ShardBuilder:
    """Writes one shard of new statistics and, once it is durable, its record."""

    def __init__(self, folder: Path, index: int, specs: list[TensorSpec], *, durable: bool) -> None:
        self.folder, self.index, self._durable = folder, index, durable
        names = [TensorSpec("x" * 24 + s.name, s.dtype, s.shape) for s in specs for _ in range(_STATISTICS_PER_TENSOR)]
        self.writer = SafetensorsWriter(
            folder / shard_file(index), reserve=header_reserve(names, {}), metadata={}, durable=durable
        )
        self.records: dict[str, TensorRecord] = {}

    def write(self, spec: TensorSpec, statistics: Mapping[str, Tensor], *, sliced: bool) -> None:
        """Append the statistics of the next slice (or the whole) of a tensor."""
        for statistic, tensor in statistics.items():
            key = statistic_key(statistic, spec.name)
            if key not in self.writer.regions:
                shape = spec.shape if sliced else tuple(tensor.shape)
                self.writer.allocate(TensorSpec(key, DTYPES[tensor.dtype], shape))
            self.writer.append(key, as_bytes(tensor))

    def finish(self, contributions: list[dict[str, str]]) -> dict[str, Any]:
        """Make the shard durable and write the record that makes it count."""
        statistics: dict[str, dict[str, str]] = {name: {} for name in self.records}
        for key, region in self.writer.regions.items():
            statistic, tensor = key.split(".", 1)
            statistics[tensor][statistic] = region.digest
        self.writer.finish()
        record = {
            "bytes": self.writer.bytes_written,
            "linked": False,
            "contributions": contributions,
            "tensors": {
                name: {"statistics": statistics[name], "folds": record.finish()}
                for name, record in self.records.items()
            },
        }
        write_record(self.folder, self.index, record)
        return record


def carry_shard(
    folder: Path, index: int, specs: list[TensorSpec], *, sources: int, previous: tuple[Path, dict[str, Any]] | None
) -> dict[str, Any]:
    """A shard that no contribution touches: the previous file under a second name, nothing read or written."""
    nbytes = None
    if previous is not None and previous[1]["bytes"] is not None:
        nbytes = previous[1]["bytes"]
        target = folder / shard_file(index)
        target.unlink(missing_ok=True)
        os.link(previous[0] / shard_file(index), target)
    tensors = {}
    for spec in specs:
        before = previous[1]["tensors"][spec.name] if previous else None
        record = TensorRecord(sources, merge_sq_of(before))
        tensors[spec.name] = {"statistics": before["statistics"] if before else {}, "folds": record.finish()}
    record_json: dict[str, Any] = {
        "bytes": nbytes,
        "linked": True,
        "contributions": [{} for _ in range(sources)],
        "tensors": tensors,
    }
    write_record(folder, index, record_json)
    return record_json


def merge_sq_of(tensor_record: Mapping[str, Any] | None) -> float:
    """Squared norm of the running sum of a tensor, after the last fold that its record describes."""
    return float(tensor_record["folds"][-1]["sums"]["merge_sq"]) if tensor_record and tensor_record["folds"] else 0.0
