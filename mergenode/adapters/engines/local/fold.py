"""The fold pass: every tensor once, disk -> fold -> disk, shard by durable shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.checkpoints.contribution import Entry, LowRank
from mergenode.adapters.checkpoints.weights import WeightFiles, open_weights
from mergenode.adapters.engines.local.incoming import Source, reject_values, side_bytes
from mergenode.adapters.engines.local.journal import finished_shard, load_record, shard_file
from mergenode.adapters.engines.local.own_files import reading_own
from mergenode.adapters.engines.local.pipeline import Step
from mergenode.adapters.engines.local.report import refuse_overflow
from mergenode.adapters.engines.local.shards import (
    ShardBuilder,
    TensorRecord,
    carry_shard,
    merge_sq_of,
    shard_layout,
    statistic_key,
)
from mergenode.adapters.engines.local.surveying import NOTHING, Foreknown, arriving, is_surveyed, survey, surveys
from mergenode.adapters.engines.local.tensors import accumulator_dtype, read_slice, slices
from mergenode.maths.opposing_signs import opposing_mass, sampled
from mergenode.methods.accumulator import RUNNING_SUM, running_sum
from mergenode.methods.contract import Folded, Method
from mergenode.types import TensorSpec

PROGRESS_BYTES = 4
"""Bytes that progress counts for a parameter, whatever the method keeps of it."""


@dataclass(slots=True, kw_only=True)
class FoldPass:
    """Folds ``sources`` in order into new statistics below ``folder``, starting from ``previous`` (None: empty).

    ``retracting``: takes them out of ``previous`` instead.
    """

    base: BaseModel
    base_files: WeightFiles
    sources: list[Source]
    method: Method
    folder: Path
    previous: Path | None
    device: torch.device
    durable: bool = True
    retracting: bool = False
    veto_bytes: Callable[[int], int] = lambda elements: 0
    """Bytes that the vetoes of one source take in a step of so many elements."""
    advanced: Callable[[int, int], None] = lambda tensors, nbytes: None
    taken_over: Callable[[int, int], None] = lambda tensors, nbytes: None
    records: dict[int, dict[str, Any]] = field(default_factory=dict)
    bytes_read: int = 0
    bytes_written: int = 0
    open_shards: dict[int, ExitStack] = field(default_factory=dict)

    def close(self) -> None:
        """Give back what shards that were not finished hold open. Idempotent."""
        while self.open_shards:
            self.open_shards.popitem()[1].close()

    def steps(self) -> Iterator[Step]:
        """The work that is left, in order. Finished shards are taken over, untouched ones linked."""
        for index, specs in enumerate(shard_layout(self.base)):
            done = finished_shard(self.folder, index)
            before = (self.previous, load_record(self.previous, index)) if self.previous else None
            if done is None and not any(s.entry(spec.name) for s in self.sources for spec in specs):
                done = carry_shard(self.folder, index, specs, sources=len(self.sources), previous=before)
            if done is not None:
                self.records[index] = done
                for source, digests in zip(self.sources, done["contributions"], strict=True):
                    source.digests.update(digests)
                self.taken_over(len(specs), PROGRESS_BYTES * sum(spec.numel for spec in specs))
            else:
                yield from self._shard(index, specs, before)

    def _shard(self, index: int, specs: list[TensorSpec], before: tuple[Path, dict[str, Any]] | None) -> Iterator[Step]:
        open_files = self.open_shards[index] = ExitStack()
        builder = ShardBuilder(self.folder, index, specs, durable=self.durable)
        open_files.callback(builder.writer.close)
        old: WeightFiles | None = None
        if before and before[1]["bytes"] is not None:
            with reading_own("statistics"):
                old = open_files.enter_context(open_weights(before[0] / shard_file(index)))
        for spec in specs:
            tensor_before = before[1]["tensors"][spec.name] if before else None
            builder.records[spec.name] = TensorRecord(len(self.sources), merge_sq_of(tensor_before))
            statistics = list(tensor_before["statistics"]) if tensor_before else []
            yield from self._tensor(builder, spec, old, statistics, last=spec is specs[-1])

    def _tensor(
        self, builder: ShardBuilder, spec: TensorSpec, old: WeightFiles | None, statistics: list[str],
        *, last: bool,
    ) -> Iterator[Step]:  # fmt: skip
        entries = [source.entry(spec.name) for source in self.sources]
        # What no contribution touches is copied in slices, unless its statistics have shapes of their own.
        carried = not any(entries) and all(_stored(old, name, spec).shape == spec.shape for name in statistics)
        sliced = self.method.elementwise(spec) or carried
        ranges = slices(spec, whole=not sliced)
        factors = self.factor_bytes(spec)
        known = [NOTHING] * len(entries)  # filled when the first slice is read
        for bounds in ranges:
            final = bounds == ranges[-1]
            yield Step(
                need_bytes=self.need_bytes(spec, bounds, len(self.sources), whole=not sliced) + factors,
                read=partial(self._read, spec, entries, old, statistics, None if not sliced else bounds, known),
                compute=partial(self._compute, spec, entries, bounds, None if sliced else spec.shape, known),
                write=partial(self._write, builder, spec, sliced, (final, last and final), bounds[1] - bounds[0]),
            )

    def need_bytes(self, spec: TensorSpec, bounds: tuple[int, int], sources: int, *, whole: bool) -> int:
        """Bytes a step holds at its peak: base and delta, the raw weights of the other sources, old and new statistics,
        the method's own. Before, when nothing is folded yet, raw weights take less than that."""
        elements = bounds[1] - bounds[0]
        wide = accumulator_dtype(spec).itemsize
        kept = 2 * max(1.0, self.method.state_factor(spec))
        raw = elements * (spec.dtype.size + 4 * max(0, sources - 1))
        raw += sources * side_bytes(self.method.sides(spec), spec, elements)
        raw += max(1, sources) * self.veto_bytes(elements)
        working = self.method.working_bytes(spec) if whole else 3 * elements * wide
        if not whole and bounds[0] == 0 and is_surveyed(self.method, spec, bounds):
            working += self.method.working_bytes(spec)
        return raw + int(elements * wide * (2 + kept)) + working

    def factor_bytes(self, spec: TensorSpec) -> int:
        """What the factors of low-rank contributions to this tensor take beside ``need_bytes``, in a survey too."""
        wide = accumulator_dtype(spec).itemsize
        times = 2 if surveys(self.method) else 1
        return times * sum(source.factor_bytes(source.entry(spec.name), wide) for source in self.sources)

    def _read(
        self, spec: TensorSpec, entries: list[Entry | None], old: WeightFiles | None, statistics: list[str],
        part: tuple[int, int] | None, known: list[Foreknown],
    ) -> dict[str, Any]:  # fmt: skip
        """What a step computes from. ``part`` None: the whole tensor, statistics in their own shapes."""
        box: dict[str, Any] = {"old": {}, "parts": []}
        bounds = part or (0, spec.numel)
        if bounds[0] == 0 and is_surveyed(self.method, spec, bounds):
            read_base = partial(self._read_base, spec)
            known[:] = survey(self.method, spec, self.sources, entries, read_base, self._count)
        if any(entries):
            box["base"] = self._read_base(spec, *bounds)
        for statistic in statistics:
            stored = _stored(old, statistic, spec)
            with reading_own("statistics"):
                assert old is not None
                flat, buffer = read_slice(old, stored, *(part or (0, stored.numel)))
            box["old"][statistic] = flat if part else flat.view(stored.shape)
            self.bytes_read += buffer.nbytes
        for source, entry in zip(self.sources, entries, strict=True):
            sides = self.method.sides(spec)
            parts = source.read(entry, *bounds, spec.name, sides) if entry is not None else {}
            self.bytes_read += 0 if isinstance(entry, LowRank) else sum(t.nbytes for t in parts.values())
            box["parts"].append(parts)
        return box

    def _read_base(self, spec: TensorSpec, start: int, stop: int) -> Tensor:
        with reading_own("base"):
            tensor, buffer = read_slice(self.base_files, spec, start, stop)
        self._count(buffer.nbytes)
        return tensor

    def _count(self, nbytes: int) -> None:
        self.bytes_read += nbytes

    def _compute(
        self, spec: TensorSpec, entries: list[Entry | None], bounds: tuple[int, int],
        shape: tuple[int, ...] | None, known: list[Foreknown], box: dict[str, Any],
    ) -> tuple[dict[str, Tensor], list[Folded | None]]:  # fmt: skip
        statistics: dict[str, Tensor] = {}
        for name in list(box["old"]):
            statistics[name] = box["old"].pop(name).to(self.device)
        if "base" not in box:
            return {name: tensor.cpu() for name, tensor in statistics.items()}, [None] * len(entries)
        base = box.pop("base").to(device=self.device, dtype=accumulator_dtype(spec))
        results: list[Folded | None] = []
        for source, entry, parts, found in zip(self.sources, entries, box["parts"], known, strict=True):
            if entry is None:
                results.append(None)
                continue
            contribution = (source, entry, parts)
            folded = fold_slice(
                self.method, spec, statistics, base, contribution, bounds, shape, found, retracting=self.retracting
            )
            statistics = dict(folded.statistics)
            results.append(folded._replace(statistics={}))
        return {name: tensor.cpu() for name, tensor in statistics.items()}, results

    def _write(
        self, builder: ShardBuilder, spec: TensorSpec, sliced: bool, place: tuple[bool, bool], elements: int,
        result: tuple[dict[str, Tensor], list[Folded | None]],
    ) -> None:  # fmt: skip
        """``place``: this step is the last one of its tensor; of its shard."""
        statistics, results = result
        final, last = place
        builder.write(spec, statistics, sliced=sliced)
        for number, folded in enumerate(results):
            if folded is not None:
                builder.records[spec.name].add(number, folded.sums, folded.observed)
        if final:
            self._check_norms(builder.records[spec.name], spec)
        # By parameters: how many statistics a method keeps, and of which shapes, is its own business.
        self.advanced(int(final), PROGRESS_BYTES * elements)
        if not last:
            return
        contributions = [self._digests_of_shard(source, list(builder.records)) for source in self.sources]
        self.records[builder.index] = builder.finish(contributions)
        self.bytes_written += builder.writer.bytes_written
        self.open_shards.pop(builder.index).close()

    def _check_norms(self, record: TensorRecord, spec: TensorSpec) -> None:
        """Slices whose norms are finite may still add up to one that is not. Raises RejectedError."""
        for source, folded in zip(self.sources, record.finish(), strict=True):
            refuse_overflow(folded["sums"], f"{source.label}: the update of {spec.name!r}", source.weight_of(spec.name))

    def _digests_of_shard(self, source: Source, names: list[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for name in names:
            if entry := source.entry(name):
                found |= source.digests_of(name, entry)
        return found


def _stored(old: WeightFiles | None, statistic: str, spec: TensorSpec) -> TensorSpec:
    assert old is not None  # there are names of statistics only where there is a file with them
    return old.specs[statistic_key(statistic, spec.name)]


def fold_slice(
    method: Method, spec: TensorSpec, statistics: dict[str, Tensor], base: Tensor,
    contribution: tuple[Source, Entry, dict[str, Tensor]], bounds: tuple[int, int], shape: tuple[int, ...] | None,
    known: Foreknown, *, observe: bool = True, retracting: bool = False,
) -> Folded:  # fmt: skip
    """One contribution enters one slice, or leaves it.

    ``shape``: the tensor's shape when the whole tensor is folded at once. ``known``: what a survey found.
    """
    assert known is not NOTHING or not is_surveyed(method, spec, bounds)
    source, entry, parts = contribution
    side = source.side(spec, parts, base)
    arrived, vetoed = arriving(spec, contribution, base, bounds, first=not statistics)
    arrived = arrived._replace(side=side, start=bounds[0], **known._asdict())
    if shape is not None:
        if "fisher" in side:
            side["fisher"] = side["fisher"].view(shape)
        base = base.view(shape)
        tuned = arrived.tuned.view(shape) if arrived.tuned is not None else None
        arrived = arrived._replace(delta=arrived.delta.view(shape), tuned=tuned)
    if bounds[1] - bounds[0] == spec.numel:
        arrived = arrived._replace(content=source.content_of(entry))
    signs = {} if retracting or not observe else _opposing(statistics, base, arrived.delta, bounds[0])
    apply = method.retract if retracting else method.fold
    assert apply is not None  # only what can be subtracted is asked to be
    folded = apply(spec, statistics, base, arrived._replace(observe=observe))
    if not (isfinite(folded.sums["delta_sq"]) and isfinite(folded.sums.get("merge_sq", 0.0))):
        reject_values(spec, source, entry, arrived.delta, base.reshape(-1), bounds)
    vetoes = {} if vetoed is None else {"vetoed_sq": vetoed}
    return folded._replace(sums={**folded.sums, **vetoes, **signs})


def _opposing(statistics: dict[str, Tensor], base: Tensor, delta: Tensor, start: int) -> dict[str, float]:
    """How much of a sample of the delta goes against the signs of the running sum, where there is one to read.

    One entry of ``STRIDE``: the whole would cost a pass over the delta, and a share of thousands of entries is told to
    a percent by a sample. Before the method sees the statistics, which it may change in place.
    """
    looked_at = {
        name: sampled(statistics[name].reshape(-1), start)
        for name in RUNNING_SUM
        if name in statistics and statistics[name].numel() == delta.numel()
    }
    if not looked_at:
        return {}
    merge = running_sum(looked_at, sampled(base.reshape(-1), start))
    against, compared = opposing_mass(sampled(delta.reshape(-1), start), merge)
    return {"opposing": against, "compared": compared} if isfinite(compared) else {}


def progress_totals(work: object, base: BaseModel) -> tuple[int, int]:
    """Tensors and output bytes of a pass over the base, a fold or any other, for progress."""
    if not isinstance(work, FoldPass):
        return len(base.specs), sum(spec.nbytes for spec in base.specs.values())
    merged = [spec for specs in shard_layout(base) for spec in specs]
    return len(merged), PROGRESS_BYTES * sum(spec.numel for spec in merged)
