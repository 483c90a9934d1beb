"""The promise of ``engine.memory_limit``: planned before the first byte is read, refused when it cannot hold."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Protocol

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.engines.local.allocator import return_freed_memory
from mergenode.adapters.engines.local.fold import FoldPass
from mergenode.adapters.engines.local.shards import shard_layout
from mergenode.adapters.engines.local.tensors import needs_whole, slices
from mergenode.errors import FatalError, RejectedError, RejectReason
from mergenode.methods.contract import Method
from mergenode.types import TensorSpec

DEFAULT_WINDOW_BYTES = 256 << 20
"""More work in flight than this does not make a fold faster."""

MARGIN_BYTES = 64 << 20
"""What the process may still need besides the work in flight: metadata, the ledger, HTTP, code not yet used, and what
allocators of several threads keep. With 48 MiB one fold in a few hundred was 0.7 MiB above its limit."""


class Limited(Protocol):
    """``Resources``: a limit in bytes, and the names that the user knows it and option ``exclude`` by."""

    @property
    def memory_limit(self) -> int: ...
    @property
    def limit_name(self) -> str: ...
    @property
    def exclude_name(self) -> str: ...


def resident_bytes() -> int:
    """Resident memory of this process now, in bytes, without what was freed and only kept for reuse."""
    return_freed_memory()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def set_aside() -> int:
    """Bytes that a process which has just started sets aside for itself; the rest of the limit is for the work.

    Measured once: a node that grows within the margin goes on folding what it could fold at its start.
    """
    return resident_bytes() + MARGIN_BYTES


def largest_need(
    base: BaseModel, fold: FoldPass, sources: int, *, factors: bool = True
) -> tuple[int, TensorSpec | None]:
    """The step of a fold that needs the most memory, in bytes, and its tensor; with or without low-rank factors."""
    largest: tuple[int, TensorSpec | None] = (0, None)
    for specs in shard_layout(base):
        for spec in specs:
            whole = not fold.method.elementwise(spec)
            need = fold.need_bytes(spec, slices(spec, whole=whole)[0], sources, whole=whole)
            need += fold.factor_bytes(spec) if factors else 0
            if need > largest[0]:
                largest = (need, spec)
    return largest


def refuse_factors(base: BaseModel, fold: FoldPass, sources: int, available: int) -> None:
    """Refuse an adapter whose factors do not fit beside the rest of a step: the node goes on without it.

    Raises:
        RejectedError: TOO_LARGE; the message names adapter, file and tensor.
    """
    need, spec = largest_need(base, fold, sources)
    if need <= available or spec is None:
        return
    source = max(fold.sources, key=lambda source: source.factor_bytes(source.entry(spec.name), 4))
    entry = source.entry(spec.name)
    assert entry is not None
    name, files = source.sources_of(entry)[0], source.contribution.weights
    raise RejectedError(
        RejectReason.TOO_LARGE,
        f"{source.label}: tensor {name!r} ({files.file_of(name)}): the factors of {spec.name!r} take "
        f"{source.factor_bytes(entry, 4) >> 20} MiB of memory, engine.memory_limit has no room for them",
        hint="Merge the adapter into the base model (peft: merge_and_unload) and offer the full checkpoint, "
        "or raise engine.memory_limit.",
    )


def plan_window(
    limits: Limited, need: int, spec: TensorSpec | None, method: Method, *, process: int, enough: int = 0,
    activity: str = "fold",
) -> int:  # fmt: skip
    """Bytes of work that may be in flight beside the ``process`` bytes of everything else.

    ``activity``: what needs them, for the message; ``method``: whose options could need less, for its hint. ``enough``:
    bytes of work that every other step fits into, so that who follows the hint is not sent back for another one.

    Raises:
        FatalError: the limit cannot hold the largest step; the message names the tensor and the limit it takes.
    """
    available = limits.memory_limit - process
    if need > available and spec is not None:
        sliceable = limits.exclude_name and "exclude" in method.options and needs_whole(method, spec)
        raise FatalError(
            f"{limits.limit_name} {limits.memory_limit >> 20} MiB cannot hold the {activity} of {spec.name!r} "
            f"{list(spec.shape)}: it needs {_mib(need)} MiB beside the {_mib(process)} MiB of the process",
            hint=f"Set {limits.limit_name} to at least {_mib(max(need, enough) + process) + 1}MiB"
            + (f", or keep the method off this tensor ({limits.exclude_name})." if sliceable else "."),
        )
    return min(available, max(need, DEFAULT_WINDOW_BYTES))


def _mib(nbytes: int) -> int:
    """Rounded up: what is told to be needed must be enough."""
    return -(-nbytes // (1 << 20))
