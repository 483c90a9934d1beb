"""Fold and export in one pass, without statistics on disk: for methods whose export needs no whole-model sums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.checkpoints.contribution import Entry
from mergenode.adapters.checkpoints.writer import SafetensorsWriter
from mergenode.adapters.engines.local.export import ExportPass, export_slice, output_spec
from mergenode.adapters.engines.local.fold import fold_slice
from mergenode.adapters.engines.local.incoming import Source, side_bytes
from mergenode.adapters.engines.local.pipeline import Step
from mergenode.adapters.engines.local.shards import TensorRecord
from mergenode.adapters.engines.local.surveying import NOTHING, Foreknown, is_surveyed, survey, surveys
from mergenode.adapters.engines.local.tensors import accumulator_dtype, needs_whole, slices
from mergenode.methods.contract import Folded, Method
from mergenode.types import DType, TensorSpec


@dataclass(slots=True, kw_only=True)
class DirectPass(ExportPass):
    """Reads base and all contributions once, writes the version; ``totals`` must be known in advance."""

    sources: list[Source]
    records: dict[str, TensorRecord] = field(default_factory=dict)

    def _tensor(self, writer: SafetensorsWriter, spec: TensorSpec, target: TensorSpec, *, last: bool) -> Iterator[Step]:
        primary = self.base.aliases.get(spec.name, spec.name)
        entries = [source.entry(primary) if spec.dtype.is_float else None for source in self.sources]
        known = self._as_merged(spec)
        whole = any(entries) and needs_whole(self.method, known)
        if spec.dtype.is_float and primary == spec.name:
            self.records[spec.name] = TensorRecord(len(self.sources), 0.0)
        ranges = slices(spec, whole=whole)
        wide = accumulator_dtype(spec).itemsize
        factors = sum(source.factor_bytes(entry, wide) for source, entry in zip(self.sources, entries, strict=True))
        factors *= 2 if surveys(self.method) else 1  # a survey has its own
        foreknown = [NOTHING] * len(entries)  # filled when the first slice is read
        for bounds in ranges:
            final = bounds == ranges[-1]
            need = direct_bytes(self.method, known, bounds, target.dtype.size, len(self.sources), whole=whole)
            yield Step(
                need_bytes=need + factors,
                read=partial(self._read_all, spec, known, entries, bounds, foreknown),
                compute=partial(self._merge, spec, target, entries, bounds, whole, foreknown),
                write=partial(self._land, writer, target, final, last and final),
            )

    def _read_all(
        self, spec: TensorSpec, known: TensorSpec, entries: list[Entry | None], bounds: tuple[int, int],
        foreknown: list[Foreknown],
    ) -> dict[str, Any]:  # fmt: skip
        if bounds[0] == 0 and is_surveyed(self.method, known, bounds):
            foreknown[:] = survey(
                self.method, known, self.sources, entries, partial(self._read_base, spec), self._count
            )  # fmt: skip
        box = self._read(spec, bounds, False)
        box["parts"] = [
            source.read(entry, *bounds, known.name, self.method.sides(known)) if entry is not None else {}
            for source, entry in zip(self.sources, entries, strict=True)
        ]
        self.bytes_read += sum(tensor.nbytes for parts in box["parts"] for tensor in parts.values())
        return box

    def _read_base(self, spec: TensorSpec, start: int, stop: int) -> Tensor:
        found: Tensor = self._read(spec, (start, stop), False)["base"]
        return found

    def _count(self, nbytes: int) -> None:
        self.bytes_read += nbytes

    def _merge(
        self, spec: TensorSpec, target: TensorSpec, entries: list[Entry | None], bounds: tuple[int, int], whole: bool,
        foreknown: list[Foreknown], box: dict[str, Any],
    ) -> tuple[tuple[Tensor, float], list[Folded | None]]:  # fmt: skip
        raw = box.pop("base")
        results: list[Folded | None] = [None] * len(entries)
        statistics: dict[str, Tensor] = {}
        base = None
        if any(entries):
            base = raw.to(device=self.device, dtype=accumulator_dtype(spec))
            arrived = zip(self.sources, entries, box.pop("parts"), foreknown, strict=True)
            for number, (source, entry, parts, found) in enumerate(arrived):
                if entry is not None:
                    folded = fold_slice(
                        self.method, self._as_merged(spec), statistics, base, (source, entry, parts), bounds,
                        spec.shape if whole else None, found, observe=False,
                    )  # fmt: skip
                    statistics = dict(folded.statistics)
                    results[number] = folded._replace(statistics={})
        exported = export_slice(
            self.method, self._as_merged(spec), target, raw, statistics, self.totals, whole=whole, base=base
        )
        return exported, results

    def _land(
        self, writer: SafetensorsWriter, target: TensorSpec, final: bool, last: bool,
        result: tuple[tuple[Tensor, float], list[Folded | None]],
    ) -> None:  # fmt: skip
        exported, results = result
        record = self.records.get(target.name)
        for number, folded in enumerate(results):
            if folded is not None and record is not None:
                record.add(number, folded.sums, folded.observed)
        self._write(writer, target, final, last, exported)

    def tensors(self) -> dict[str, dict[str, Any]]:
        """Tensor records in the shape that ``report`` reads."""
        return {name: {"statistics": {}, "folds": record.finish()} for name, record in self.records.items()}


def direct_bytes(
    method: Method, spec: TensorSpec, bounds: tuple[int, int], output: int, sources: int, *, whole: bool
) -> int:
    """Bytes that a step of ``sources`` full checkpoints holds at its peak, old and new statistics side by side.

    ``spec``: the tensor as it is folded; ``output``: bytes per element of what is written.
    """
    elements, wide = bounds[1] - bounds[0], accumulator_dtype(spec).itemsize
    working = max(method.working_bytes(spec), method.bytes_to_export(spec)) if whole else 3 * elements * wide
    kept = int(elements * wide * 2 * max(1.0, method.state_factor(spec)))
    sides = sources * side_bytes(method.sides(spec), spec, elements)
    if not whole and bounds[0] == 0 and is_surveyed(method, spec, bounds):
        working += method.working_bytes(spec)
    return elements * (spec.dtype.size + output + 4 * sources + 3 * wide) + kept + working + sides


def largest_direct(base: BaseModel, method: Method, dtype: DType | None, sources: int) -> int:
    """The largest step of a pass over ``sources`` full checkpoints, in bytes."""
    needs = [0]
    for spec in base.specs.values():
        if spec.dtype.is_float:
            known = base.specs[base.aliases.get(spec.name, spec.name)]
            whole = needs_whole(method, known)
            bounds = slices(spec, whole=whole)[0]
            output = output_spec(spec, dtype).dtype.size
            needs.append(direct_bytes(method, known, bounds, output, sources, whole=whole))
    return max(needs)
