"""The pass that adds up statistics of several merges: every tensor once, disk -> combine -> disk, shard by shard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from mergenode.adapters.engines.local import journal
from mergenode.adapters.engines.local.checked_statistics import HashedStatistics
from mergenode.adapters.engines.local.fold import PROGRESS_BYTES, FoldPass
from mergenode.adapters.engines.local.own_files import reading_own
from mergenode.adapters.engines.local.pipeline import Step
from mergenode.adapters.engines.local.shards import ShardBuilder, TensorRecord, carry_shard, shard_layout
from mergenode.adapters.engines.local.tensors import accumulator_dtype, read_slice, slices
from mergenode.errors import FatalError
from mergenode.methods.contract import Incoming, Statistics
from mergenode.types import TensorSpec


@dataclass(slots=True, kw_only=True)
class CombinePass(FoldPass):
    """Writes ``method.combine`` of ``sides``, one after the other, below ``folder``. Folds nothing: no sources.

    Sides are added up as they are read, in the thread that reads: however many there are, two of them and their sum
    are in memory. Shards that are finished already are taken over.

    Every record says how large the running merge is now: what a method would say after a contribution that changes
    nothing. For people to look at, like every ``merge_sq``.
    """

    sides: Sequence[HashedStatistics]

    def steps(self) -> Iterator[Step]:
        for index, specs in enumerate(shard_layout(self.base)):
            done = journal.finished_shard(self.folder, index)
            if done is not None:
                self.records[index] = done
                self.taken_over(len(specs), PROGRESS_BYTES * sum(spec.numel for spec in specs))
                continue
            if all(side.is_empty(spec.name) for side in self.sides for spec in specs):
                self.records[index] = carry_shard(self.folder, index, specs, sources=0, previous=None)
                self.taken_over(len(specs), PROGRESS_BYTES * sum(spec.numel for spec in specs))
                continue
            open_files = self.open_shards[index] = ExitStack()
            builder = ShardBuilder(self.folder, index, specs, durable=self.durable)
            open_files.callback(builder.writer.close)
            for spec in specs:
                builder.records[spec.name] = TensorRecord(1, 0.0)
                yield from self._combine(builder, spec, last=spec is specs[-1])

    def need_bytes(self, spec: TensorSpec, bounds: tuple[int, int], sources: int, *, whole: bool) -> int:
        """Bytes a step holds at its peak: base, the statistics of two sides and of their sum, what measures it."""
        elements, wide = bounds[1] - bounds[0], accumulator_dtype(spec).itemsize
        kept = 3 * max(1.0, self.method.state_factor(spec))
        working = self.method.working_bytes(spec) if whole else 3 * elements * wide
        return elements * (spec.dtype.size + 2 * wide) + int(elements * wide * kept) + working

    def _combine(self, builder: ShardBuilder, spec: TensorSpec, *, last: bool) -> Iterator[Step]:
        whole = not self.method.elementwise(spec)
        ranges = slices(spec, whole=whole)
        for bounds in ranges:
            final = bounds == ranges[-1]
            yield Step(
                need_bytes=self.need_bytes(spec, bounds, 0, whole=whole),
                read=partial(self._read_all, spec, bounds, whole),
                compute=partial(self._sum, spec),
                write=partial(self._append, builder, spec, not whole, final, last and final),
            )

    def _read_all(self, spec: TensorSpec, bounds: tuple[int, int], whole: bool) -> dict[str, Any]:
        """The base of one slice, in accumulator dtype, and the combined statistics of all sides."""
        with reading_own("base"):
            raw, buffer = read_slice(self.base_files, spec, *bounds)
        base = raw.to(dtype=accumulator_dtype(spec))
        base = base.view(spec.shape) if whole else base
        self.bytes_read += buffer.nbytes
        combined: Statistics = {}
        for side in self.sides:
            found = side.read(spec, None if whole else bounds)
            self.bytes_read += sum(tensor.nbytes for tensor in found.values())
            assert self.method.combine is not None  # whoever starts the pass asked
            combined = self.method.combine(spec, combined, found, base)
        return {"base": base, "combined": combined}

    def _sum(self, spec: TensorSpec, box: dict[str, Any]) -> tuple[dict[str, Tensor], float]:
        """The statistics of one slice and the squared norm of the running merge there."""
        base, combined = box.pop("base"), box.pop("combined")
        if not combined:
            return {}, 0.0
        there = {name: tensor.to(self.device) for name, tensor in combined.items()}
        square = self._measured(spec, there, base.to(self.device))
        if not isfinite(square):
            raise FatalError(
                f"the sum of all merges overflows in {spec.name!r}",
                hint="Retract the contribution with the largest norm (`mergenode status`) on one of the nodes.",
            )
        return dict(combined), square

    def _measured(self, spec: TensorSpec, combined: Statistics, base: Tensor) -> float:
        """Squared norm of the running merge: what a method says after a contribution that changes nothing."""
        nothing = Incoming(torch.zeros_like(base), content="none")
        return self.method.fold(spec, combined, base, nothing).sums["merge_sq"]

    def _append(
        self, builder: ShardBuilder, spec: TensorSpec, sliced: bool, final: bool, last: bool,
        result: tuple[dict[str, Tensor], float],
    ) -> None:  # fmt: skip
        statistics, square = result
        builder.write(spec, statistics, sliced=sliced)
        builder.records[spec.name].add(0, {"delta_sq": 0.0, "kept_sq": 0.0, "dot": 0.0, "merge_sq": square}, {})
        self.advanced(int(final), PROGRESS_BYTES * spec.numel if final else 0)
        if last:
            self.records[builder.index] = builder.finish([])
            self.bytes_written += builder.writer.bytes_written
            self.open_shards.pop(builder.index).close()
