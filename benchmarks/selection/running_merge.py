"""The running merge of a node, in this process: members are folded, newcomers are tried and taken out again."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.quality.stream import MEMORY_LIMIT, SilentObserver
from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.engines.local.engine import LocalEngine, Resources
from mergenode.methods import build_method
from mergenode.types import Candidate, FoldResult, Head


class RunningMerge:
    """Members folded by ``method`` in their order. ``work``: a directory of its own, removed by ``close``."""

    def __init__(self, base: Path, described: BaseModel, members: Sequence[Path], method: str, work: Path) -> None:
        shutil.rmtree(work, ignore_errors=True)
        (work / "generations").mkdir(parents=True)
        self._work = work
        self._engine = LocalEngine(
            base_path=base,
            base=described,
            method=build_method(method, {}),
            folding=work / "folding",
            generations=work / "generations",
            resources=Resources(memory_limit=MEMORY_LIMIT, threads=1, device="cpu"),
        )
        self._head = Head()
        for member in members:
            self._head, _ = self._folded(member)
        self.version = self._exported(self._head, "version")

    def tried(self, newcomer: Path) -> tuple[FoldResult, Path]:
        """What a fold of the newcomer tells, and the model that would be published. The merge stays as it is.

        Raises:
            RejectedError: it cannot be folded.
        """
        after, result = self._folded(newcomer)
        would_be = self._exported(after, "would-be")
        shutil.rmtree(self._engine.generation_folder(after.generation))
        return result, would_be

    def close(self) -> None:
        """Remove everything that it wrote."""
        shutil.rmtree(self._work)

    def _folded(self, path: Path) -> tuple[Head, FoldResult]:
        shutil.rmtree(self._engine.folding, ignore_errors=True)
        candidate = Candidate("gates", path.name, "", str(path))
        result = self._engine.fold(candidate, self._head, SilentObserver())
        after = replace(
            self._head,
            generation=self._head.generation + 1,
            count=self._head.count + 1,
            totals=result.totals,
            statistics=result.statistics,
        )
        self._engine.folding.rename(self._engine.generation_folder(after.generation))
        return after, result

    def _exported(self, head: Head, name: str) -> Path:
        target = self._work / name
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        self._engine.export(head, str(target), SilentObserver())
        return target
