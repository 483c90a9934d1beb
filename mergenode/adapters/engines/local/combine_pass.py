"""The pass that adds up the statistics of two merges: every tensor once, disk -> combine -> disk, shard by shard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from blake3 import blake3
from torch import Tensor

from mergenode.adapters.engines.local import journal
from mergenode.adapters.engines.local.fold import FoldPass
from mergenode.adapters.engines.local.own_files import reading_own
from mergenode.adapters.engines.local.pipeline import Step
from mergenode.adapters.engines.local.report import all_tensors
from mergenode.adapters.engines.local.shards import ShardBuilder, TensorRecord, carry_shard, shard_layout
from mergenode.adapters.engines.local.statistics_files import StatisticsFiles
from mergenode.adapters.engines.local.tensors import accumulator_dtype, as_bytes, read_slice, slices
from mergenode.errors import FatalError
from mergenode.methods.contract import Incoming, Statistics
from mergenode.types import TensorSpec


class CheckedStatistics:
    """The statistics of a generation, every byte held against its digest on the way. Used by one thread."""

    def __init__(self, folder: Path, expected: str | None) -> None:
        """Raises FatalError when the records are not those whose digest is ``expected``: the ledger names it."""
        manifest = journal.load_manifest(folder)
        records = {index: journal.load_record(folder, index) for index in range(manifest["shards"])}
        tensors = {name: tensor["statistics"] for name, tensor in all_tensors(records).items()}
        identity = {"content": manifest["content"], "totals": manifest["totals"], "tensors": tensors}
        if journal.digest_of(identity) != expected:
            raise _damaged(folder, f"the records do not add up to the digest in the ledger ({expected})")
        self.folder, self.totals = folder, dict(manifest["totals"])
        self._files = StatisticsFiles(folder, records)
        self._hashers: dict[tuple[str, str], Any] = {}

    def is_empty(self, tensor: str) -> bool:
        """Whether nothing was folded into this tensor."""
        return not self._files.digests(tensor)

    def read(self, spec: TensorSpec, part: tuple[int, int] | None) -> dict[str, Tensor]:
        """The next slice of a tensor's statistics, flat; each whole, in its own shape, with ``part`` None.

        Slices are read in order. Raises FatalError at the last one when the bytes are not those that were recorded.
        """
        try:
            found = self._files.read(spec.name, part)
        except (KeyError, ValueError) as error:
            raise _damaged(self.folder, f"the statistics of {spec.name!r} are not as recorded ({error})") from error
        for name, tensor in found.items():
            hasher = self._hashers.setdefault((spec.name, name), blake3())
            hasher.update(as_bytes(tensor))
            if part is None or part[1] == spec.numel:
                read = f"blake3:{self._hashers.pop((spec.name, name)).hexdigest()}"
                if read != self._files.digests(spec.name)[name]:
                    raise _damaged(self.folder, f"statistic {name!r} of {spec.name!r} has not the recorded digest")
        return found

    def close(self) -> None:
        """Release descriptors. Idempotent."""
        self._files.close()


@dataclass(slots=True, kw_only=True)
class CombinePass(FoldPass):
    """Writes ``method.combine`` of ``sides``, in this order, below ``folder``. Folds nothing: no sources.

    Every record says how large the running merge is now: what a method would say after a contribution that changes
    nothing. For people to look at, like every ``merge_sq``.
    """

    sides: tuple[CheckedStatistics, CheckedStatistics]

    def steps(self) -> Iterator[Step]:
        for index, specs in enumerate(shard_layout(self.base)):
            if all(side.is_empty(spec.name) for side in self.sides for spec in specs):
                self.records[index] = carry_shard(self.folder, index, specs, sources=0, previous=None)
                self.advanced(len(specs), sum(spec.nbytes for spec in specs))
                continue
            open_files = self.open_shards[index] = ExitStack()
            builder = ShardBuilder(self.folder, index, specs, durable=self.durable)
            open_files.callback(builder.writer.close)
            for spec in specs:
                builder.records[spec.name] = TensorRecord(1, 0.0)
                yield from self._combine(builder, spec, last=spec is specs[-1])

    def need_bytes(self, spec: TensorSpec, bounds: tuple[int, int], sources: int, *, whole: bool) -> int:
        """Bytes a step holds at its peak: base, the statistics of both sides and of the result, what measures it."""
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
                read=partial(self._read_both, spec, bounds, whole),
                compute=partial(self._sum, spec, spec.shape if whole else None),
                write=partial(self._append, builder, spec, not whole, final, last and final),
            )

    def _read_both(self, spec: TensorSpec, bounds: tuple[int, int], whole: bool) -> dict[str, Any]:
        with reading_own("base"):
            base, buffer = read_slice(self.base_files, spec, *bounds)
        sides = [side.read(spec, None if whole else bounds) for side in self.sides]
        self.bytes_read += buffer.nbytes + sum(tensor.nbytes for side in sides for tensor in side.values())
        return {"base": base, "sides": sides}

    def _sum(
        self, spec: TensorSpec, shape: tuple[int, ...] | None, box: dict[str, Any]
    ) -> tuple[dict[str, Tensor], float]:
        """The statistics of one slice and the squared norm of the running merge there."""
        base = box.pop("base").to(device=self.device, dtype=accumulator_dtype(spec))
        base = base if shape is None else base.view(shape)
        left, right = ({name: tensor.to(self.device) for name, tensor in side.items()} for side in box.pop("sides"))
        assert self.method.combine is not None  # whoever starts the pass asked
        combined = self.method.combine(spec, left, right, base)
        del left, right
        if not combined:
            return {}, 0.0
        square = self._measured(spec, combined, base)
        if not isfinite(square):
            raise FatalError(
                f"the sum of both merges overflows in {spec.name!r}",
                hint="Retract the contribution with the largest norm (`mergenode status`) on one of the nodes.",
            )
        return {name: tensor.cpu() for name, tensor in combined.items()}, square

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
        self.advanced(int(final), sum(tensor.nbytes for tensor in statistics.values()))
        if last:
            self.records[builder.index] = builder.finish([])
            self.bytes_written += builder.writer.bytes_written
            self.open_shards.pop(builder.index).close()


def _damaged(folder: Path, what: str) -> FatalError:
    return FatalError(
        f"{folder}: {what}",
        hint="Run `mergenode verify` on that node; damaged statistics have to be restored from a backup.",
    )
