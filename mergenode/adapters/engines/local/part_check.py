"""Whether statistics that another node sent can be those of a merge: names, shapes, types, and every value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import isfinite, sqrt
from typing import Any

import torch
from blake3 import blake3
from torch import Tensor

from mergenode.adapters.engines.local.combine_pass import CombinePass
from mergenode.adapters.engines.local.fold import PROGRESS_BYTES
from mergenode.adapters.engines.local.own_files import reading_own
from mergenode.adapters.engines.local.part_file import PartFile
from mergenode.adapters.engines.local.pipeline import Step
from mergenode.adapters.engines.local.shards import shard_layout
from mergenode.adapters.engines.local.tensors import (
    DTYPES,
    accumulator_dtype,
    as_bytes,
    needs_whole,
    read_slice,
    slices,
)
from mergenode.errors import FatalError, RejectedError, RejectReason
from mergenode.ledger.union import Part
from mergenode.maths.norms import exact_total
from mergenode.methods.contract import Method
from mergenode.methods.layouts import Layout, Stored, fitting
from mergenode.types import DType, TensorSpec

LARGEST_VALUE = 1e30
"""Of a statistic: far beyond any model, far below where sums of many parts overflow."""

MOST_RELATIVE = 10.0
"""Norm of a merge per contribution, relative to the base: beyond that no fine-tune explains it; see ``DIVERGED``."""

MOST_TIMES_THE_MEDIAN = 30.0
"""Norm per contribution of a part over the median of all parts, from three others on."""


def check_names(file: PartFile, part: Part, specs: Mapping[str, TensorSpec], method: Method) -> dict[str, Layout]:
    """The layout of every tensor that the part has statistics of. ``specs``: the merged tensors of the base.

    Raises RejectedError: TENSOR_UNEXPECTED, SHAPE_MISMATCH, DTYPE_MISMATCH; the message names the tensor.
    """
    found: dict[str, Layout] = {}
    for name, statistics in file.names.items():
        spec = specs.get(name)
        if spec is None or not part.entries:
            raise RejectedError(RejectReason.TENSOR_UNEXPECTED, f"statistics of {name!r}, which nobody merged")
        layout = fitting(method.layouts(spec), {key: stored.shape for key, stored in statistics.items()}, spec)
        if layout is None:
            shapes = ", ".join(f"{key} {list(stored.shape)}" for key, stored in sorted(statistics.items())[:6])
            raise RejectedError(
                RejectReason.SHAPE_MISMATCH, f"statistics of {name!r} are no state of {method.name}: {shapes}"
            )
        for key, stored in layout.items():
            wanted = DType.I16 if stored.votes else DTYPES[accumulator_dtype(spec)]
            if statistics[key].dtype is not wanted:
                raise RejectedError(
                    RejectReason.DTYPE_MISMATCH,
                    f"statistic {key!r} of {name!r} is {statistics[key].dtype.value}, not {wanted.value}",
                )
        found[name] = layout
    return found


def check_totals(part: Part, method: Method) -> None:
    """Raises RejectedError (DIGEST_MISMATCH) when the totals do not follow from the contributions that are named."""
    count, weights = len(part.entries), sum(entry.weight for entry in part.entries.values())
    if not count:
        return
    try:
        assert method.pool is not None  # goes with ``combine``
        method.pool(part.totals, part.totals)
        off = abs(part.totals.get("weight_sum", weights) - weights) > 1e-6 * max(1.0, abs(weights))
        wrong = part.totals.get("count", count) != count or off or min(part.totals.values(), default=0.0) < 0
    except (KeyError, ValueError, ZeroDivisionError):
        wrong = True
    if wrong:
        raise RejectedError(
            RejectReason.DIGEST_MISMATCH, f"its totals are not those of the {count} contributions that it names"
        )


def check_norm(part: Part, others: Mapping[str, Part], base_norm: float) -> None:
    """Raises RejectedError (NORM_TOO_LARGE) when the merge is too large for its contributions, or beside all others."""
    share = _per_contribution(part)
    if base_norm > 0 and share > MOST_RELATIVE * base_norm:
        raise RejectedError(
            RejectReason.NORM_TOO_LARGE, f"its merge is {share / base_norm:.3g} times the base, per contribution"
        )
    known = sorted(_per_contribution(other) for other in others.values() if other.entries and other.norm > 0)
    median = known[len(known) // 2] if len(known) >= 3 else 0.0
    if median > 0 and share > MOST_TIMES_THE_MEDIAN * median:
        raise RejectedError(
            RejectReason.NORM_TOO_LARGE, f"its merge is {share / median:.3g} times the median of all, per contribution"
        )


def _per_contribution(part: Part) -> float:
    return part.norm / max(1, len(part.entries))


@dataclass(slots=True, kw_only=True)
class AdmissionPass(CombinePass):
    """Reads every statistic of a part once: finite, within what its layout says, and exported to finite weights.

    Writes nothing. ``digests`` and ``squares`` are known afterwards.
    """

    file: PartFile
    part: Part
    layouts: Mapping[str, Layout]
    digests: dict[str, dict[str, str]] = field(default_factory=dict)
    squares: list[float] = field(default_factory=list)
    hashers: dict[tuple[str, str], Any] = field(default_factory=dict)

    @property
    def norm(self) -> float:
        """Of the merge that the part is."""
        return sqrt(exact_total(self.squares))

    def steps(self) -> Iterator[Step]:
        for spec in (spec for specs in shard_layout(self.base) for spec in specs):
            if spec.name not in self.layouts:
                self.taken_over(1, PROGRESS_BYTES * spec.numel)
                continue
            whole = self._whole(spec)
            ranges = slices(spec, whole=whole)
            for bounds in ranges:
                yield Step(
                    need_bytes=self.need_bytes(spec, bounds, 0, whole=whole),
                    read=partial(self._read_part, spec, bounds, whole),
                    compute=partial(self._judge, spec, whole),
                    write=partial(self._take, spec, bounds == ranges[-1]),
                )

    def need_bytes(self, spec: TensorSpec, bounds: tuple[int, int], sources: int, *, whole: bool) -> int:
        """Bytes a step holds at its peak: base, statistics, what measures them, and what exports them."""
        elements, wide = bounds[1] - bounds[0], accumulator_dtype(spec).itemsize
        kept = 2 * max(1.0, self.method.state_factor(spec))
        working = 3 * elements * wide
        if whole or self._whole(spec):
            working = max(self.method.working_bytes(spec), self.method.bytes_to_export(spec) + elements * wide)
        return elements * (spec.dtype.size + 2 * wide) + int(elements * wide * kept) + working

    def _whole(self, spec: TensorSpec) -> bool:
        return needs_whole(self.method, spec)

    def _read_part(self, spec: TensorSpec, bounds: tuple[int, int], whole: bool) -> dict[str, Any]:
        with reading_own("base"):
            raw, buffer = read_slice(self.base_files, spec, *bounds)
        found = self.file.read(spec.name, None if whole else bounds)
        self.bytes_read += buffer.nbytes + sum(tensor.nbytes for tensor in found.values())
        for name, tensor in found.items():
            self.hashers.setdefault((spec.name, name), blake3()).update(as_bytes(tensor))
        return {"base": raw.to(dtype=accumulator_dtype(spec)), "found": found}

    def _judge(self, spec: TensorSpec, whole: bool, box: dict[str, Any]) -> float:
        base, found = box.pop("base"), box.pop("found")
        base = base.view(spec.shape) if whole else base
        for name, stored in self.layouts[spec.name].items():
            _check_values(spec, name, stored, found[name], len(self.part.entries))
        try:
            square = self._measured(spec, found, base)
            weights = self.method.export(spec, found, base, self.part.totals)
        except (FatalError, ArithmeticError, RuntimeError) as error:
            raise RejectedError(
                RejectReason.NOT_FINITE, f"the statistics of {spec.name!r} cannot be those of a merge: {error}"
            ) from error
        if not isfinite(square) or not bool(torch.isfinite(weights).all()):
            raise RejectedError(RejectReason.NOT_FINITE, f"the statistics of {spec.name!r} export to no finite weights")
        return square

    def _take(self, spec: TensorSpec, final: bool, square: float) -> None:
        self.squares.append(square)
        self.advanced(int(final), PROGRESS_BYTES * spec.numel if final else 0)
        if final:
            self.digests[spec.name] = {
                name: f"blake3:{self.hashers.pop((spec.name, name)).hexdigest()}" for name in self.layouts[spec.name]
            }


def _check_values(spec: TensorSpec, name: str, stored: Stored, tensor: Tensor, contributions: int) -> None:
    """Raises RejectedError: NOT_FINITE, NORM_TOO_LARGE, DIGEST_MISMATCH."""
    if not tensor.numel():
        return
    what, low, high = f"statistic {name!r} of {spec.name!r}", float(tensor.min()), float(tensor.max())
    if not (isfinite(low) and isfinite(high)):  # a NaN is both the smallest and the largest value
        raise RejectedError(RejectReason.NOT_FINITE, f"{what} holds values that are not finite")
    if max(abs(low), abs(high)) > LARGEST_VALUE:
        raise RejectedError(RejectReason.NORM_TOO_LARGE, f"{what} holds values beyond {LARGEST_VALUE:g}")
    least = 0.0 if stored.votes else stored.least
    if (least is not None and low < least) or (stored.votes and high > contributions):
        raise RejectedError(
            RejectReason.DIGEST_MISMATCH, f"{what} ranges from {low:g} to {high:g}, which no merge leads to"
        )
