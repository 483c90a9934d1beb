"""Merges refined as ``mergenode refine`` does it: sums that grow with the experts, and a training after each size."""

from __future__ import annotations

import json
import os
import resource
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from blake3 import blake3

from mergenode.adapters.checkpoints.digest import content_digest
from mergenode.bootstrap.refining import RefineRequest, refine_once
from mergenode.ports.task import TaskProgram

ENTRYPOINT = "benchmarks.quality.refining_task:Task"
ROOT = Path(__file__).parents[2]
EPOCHS, RATE = 4, 1e-4


@dataclass(frozen=True, slots=True)
class RefinedMerge:
    """``weights``: a file. ``cpu``: seconds, of the plug-in's process too, for models that were new and the training.
    ``sums_bytes``: of the file that the next refinement goes on from."""

    weights: Path
    digest: str
    cpu: float
    sums_bytes: int


class Refiner:
    """Refines one merge after the other; what was refined before, with the same ``code``, is kept in ``kept``.

    ``work``: a directory of its own, which goes at the end of a ``with``.
    """

    def __init__(self, base: Path, work: Path, kept: Path, code: str) -> None:
        self._base, self._work, self._kept, self._code = base, work, kept, code
        self._sums = work / "sums.safetensors"

    def __enter__(self) -> Self:
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(parents=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._work, ignore_errors=True)

    def refine(self, merged: Path, experts: Sequence[Path]) -> RefinedMerge:
        """Refine the merge (a weight file) of ``experts``. Those of an earlier call are in the sums already."""
        contents = [content_digest(path) for path in (merged, *experts)]
        name = blake3(repr((contents, self._code, EPOCHS, RATE)).encode()).hexdigest()[:24]
        weights, told = self._kept / f"{name}.safetensors", self._kept / f"{name}.json"
        if not told.exists():
            self._kept.mkdir(parents=True, exist_ok=True)
            started = _cpu()
            output = self._refined(merged, experts)
            (output / "model.safetensors").rename(weights)
            found = {"cpu": _cpu() - started, "sums_bytes": self._sums.stat().st_size}
            private = told.with_suffix(f".{os.getpid()}")
            private.write_text(json.dumps(found))
            private.rename(told)
        return RefinedMerge(weights, f"refined-{name}", **json.loads(told.read_text()))

    def _refined(self, merged: Path, experts: Sequence[Path]) -> Path:
        output = self._work / f"refined-{len(experts)}"
        refine_once(
            RefineRequest(
                base=self._base,
                merged=self._as_checkpoint(merged),
                output=output,
                task=TaskProgram(entrypoint=ENTRYPOINT, path=ROOT, memory_limit=8 << 30, timeout=7200.0),
                models=[(path, 1.0) for path in experts],
                sums=self._sums,
                epochs=EPOCHS,
                rate=RATE,
            ),
            lambda kind, done, total: None,
        )
        return output

    def _as_checkpoint(self, weights: Path) -> Path:
        target = self._work / "merged"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self._base, target)
        shutil.copyfile(weights, target / "model.safetensors")
        return target


def _cpu() -> float:
    """Of this process and of those that it waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
