"""The engine of the node, driven step by step: fold one expert after another, export whenever asked."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from blake3 import blake3
from safetensors.torch import load_file
from torch import Tensor

from mergenode.adapters.checkpoints.base import BaseModel, describe_base
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.engines.local.engine import LocalEngine, Resources
from mergenode.methods import build_method
from mergenode.ports.observer import Observer
from mergenode.types import Candidate, Head

MEMORY_LIMIT = 4 << 30


class SilentObserver(Observer):
    """Takes what the engine tells and keeps none of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The merge of the first ``count`` experts. ``weights`` lies on disk until the next snapshot is asked for.

    CPU seconds: of all folds so far, and of this export. ``state_bytes``: the statistics files on disk.
    ``mean_norm``: mean Frobenius norm of the task vectors folded.
    """

    count: int
    weights: Path
    digest: str
    fold_cpu: float
    export_cpu: float
    state_bytes: int
    mean_norm: float

    def load(self) -> dict[str, Tensor]:
        return load_file(self.weights)


def merge_stream(
    base: Path,
    experts: Sequence[Path],
    method: str,
    options: Mapping[str, object],
    exports: Sequence[int],
    work: Path,
    weights: Sequence[float] | None = None,
) -> Iterator[Snapshot]:
    """Fold ``experts`` in the given order as a node does, and yield the merge after each count of ``exports``.

    ``work``: a directory of this call's own; everything in it is removed at the end. ``weights``: of the experts, in
    their order; None: 1 each.
    Raises RejectedError for an expert that cannot be merged, UsageError for a wrong method or option.
    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        engine = _engine(base, method, options, work)
        weighted = list(zip(experts, weights or [1.0] * len(experts), strict=True))
        yield from _snapshots(engine, weighted, exports, work / "export")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _engine(base: Path, method: str, options: Mapping[str, object], work: Path) -> LocalEngine:
    (work / "generations").mkdir()
    described: BaseModel = describe_base(base, limits=Limits(), progress=lambda done, total: None)
    return LocalEngine(
        base_path=base,
        base=described,
        method=build_method(method, options),
        folding=work / "folding",
        generations=work / "generations",
        resources=Resources(memory_limit=MEMORY_LIMIT, threads=1, device="cpu"),
    )


def _snapshots(
    engine: LocalEngine, experts: Sequence[tuple[Path, float]], exports: Sequence[int], staging: Path
) -> Iterator[Snapshot]:
    head, fold_cpu, norms = Head(), 0.0, 0.0
    for expert, weight in experts[: max(exports)]:
        started = time.process_time()
        head, norm = _fold(engine, expert, weight, head)
        fold_cpu += time.process_time() - started
        norms += norm
        if head.count in exports:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir()
            started = time.process_time()
            exported = engine.export(head, str(staging), SilentObserver())
            generation = engine.generation_folder(head.generation)
            yield Snapshot(
                count=head.count,
                weights=staging / "model.safetensors",
                digest=blake3(repr(sorted(exported.tensors.items())).encode()).hexdigest(),
                fold_cpu=fold_cpu,
                export_cpu=time.process_time() - started,
                state_bytes=sum(file.stat().st_size for file in generation.glob("*.safetensors")),
                mean_norm=norms / head.count,
            )


def _fold(engine: LocalEngine, expert: Path, weight: float, head: Head) -> tuple[Head, float]:
    """Fold one expert and install its generation in place of the one before."""
    candidate = Candidate("quality", expert.name, "", str(expert), weight=weight)
    result = engine.fold(candidate, head, SilentObserver())
    after = replace(
        head,
        generation=head.generation + 1,
        count=head.count + 1,
        totals=result.totals,
        statistics=result.statistics,
    )
    engine.folding.rename(engine.generation_folder(after.generation))
    if head.generation:
        shutil.rmtree(engine.generation_folder(head.generation))
    return after, result.norm
