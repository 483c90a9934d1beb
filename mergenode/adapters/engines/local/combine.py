"""Two merges become one on disk: what both hold leaves one of them, then their statistics are added up."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mergenode.adapters.durable import copy_directory, link_directory, remove_tree, rename_directory, replace_file
from mergenode.adapters.engines.local import journal
from mergenode.adapters.engines.local.check import check_generation
from mergenode.adapters.engines.local.checked_statistics import CheckedStatistics
from mergenode.adapters.engines.local.combine_pass import CombinePass
from mergenode.adapters.engines.local.engine import LocalEngine, run_observed
from mergenode.adapters.engines.local.own_files import reading_own
from mergenode.adapters.engines.local.report import all_tensors
from mergenode.adapters.engines.local.restate import LocalRestater
from mergenode.errors import FatalError, RejectedError
from mergenode.ledger.restatement import Subtract
from mergenode.ports.observer import Observer, Progress
from mergenode.ports.restater import Restatement
from mergenode.types import Candidate, Head

_SOURCES = 8
"""Contributions that leave in one pass: bounds open files and buffers, however many there are."""

NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP)
"""Another file system, another owner, too many links, a file system without."""


@dataclass(frozen=True, slots=True)
class Part:
    """A finished generation, named as engines name them, and what its ledger says about it.

    ``origin``: the folder of the state that it was taken from, for messages.
    """

    folder: Path
    head: Head
    origin: Path


@dataclass(frozen=True, slots=True)
class LocalCombiner:
    """Works below ``scratch``, which the caller removes. The parts are read, never written to."""

    engine: LocalEngine
    scratch: Path

    def without(self, part: Part, leaving: Sequence[Candidate], observer: Observer) -> Part:
        """The part after these left it, in the scratch folder.

        Raises FatalError when one of them cannot be read as it was folded; the message names it.
        """
        at_once = self.engine.most_sources(_SOURCES)
        if not part.folder.is_relative_to(self.scratch):
            # The pass links what it does not touch, and from elsewhere it may not be able to.
            copied = self.scratch / "original" / part.folder.name
            copy_directory(part.folder, copied)
            part = replace(part, folder=copied)
        for start in range(0, len(leaving), at_once):
            reduced = self._reduced(part, tuple(leaving[start : start + at_once]), observer)
            if start:
                remove_tree(part.folder)
            part = reduced
        return part

    def _reduced(self, part: Part, leaving: tuple[Candidate, ...], observer: Observer) -> Part:
        engine = replace(self.engine, folding=self.scratch / "folding", generations=part.folder.parent)
        try:
            done = LocalRestater(engine).restate(Subtract(part.head, leaving), observer)
        except RejectedError as error:
            raise FatalError(
                f"what both states hold cannot be taken out of one of them: {error.message}",
                hint="Bring back the files as they were folded, or `mergenode retract NAME` on one of the nodes first.",
            ) from error
        head = replace(part.head, generation=part.head.generation + 1, totals=done.totals, statistics=done.statistics)
        folder = self.scratch / "reduced" / f"g{head.generation:08d}"
        folder.parent.mkdir(exist_ok=True)
        rename_directory(engine.folding, folder)
        return Part(folder, head, part.origin)

    def add(self, parts: tuple[Part, Part], target: Path, observer: Observer) -> Restatement:
        """Write the sum of both into the new folder ``target``, as a finished generation.

        The result does not depend on the order of the parts. Durability: synced on return.

        Raises:
            FatalError: statistics are damaged, their sum overflows, or memory cannot hold the largest step.
        """
        first, second = sorted(parts, key=lambda part: part.head.statistics or "")
        target.mkdir(parents=True)
        with (
            self.engine.open_base() as files,
            closing(CheckedStatistics(first.folder, first.head.statistics, first.origin)) as left,
            closing(CheckedStatistics(second.folder, second.head.statistics, second.origin)) as right,
        ):
            work = CombinePass(
                base=self.engine.base,
                base_files=files,
                sources=[],
                method=self.engine.method,
                folder=target,
                previous=None,
                device=self.engine.resources.torch_device(),
                sides=(left, right),
            )
            window, subject = self.engine.window(work, 0), ("combine", target.parent.parent.name)
            run_observed(
                work.steps(), work, self.engine.base, window, subject, observer, self.engine.resources.threads,
                self.engine.stop,
            )  # fmt: skip
            with reading_own("base"):
                files.assert_unchanged()
        assert self.engine.method.pool is not None  # it goes with ``combine``
        return self._finish(work, target, dict(self.engine.method.pool(first.head.totals, second.head.totals)))

    def _finish(self, work: CombinePass, target: Path, totals: dict[str, float]) -> Restatement:
        tensors = {name: tensor["statistics"] for name, tensor in all_tensors(work.records).items()}
        digest = journal.digest_of({"content": None, "totals": totals, "tensors": tensors})
        manifest: dict[str, Any] = {"statistics": digest, "content": None, "totals": totals, "groups": []}
        manifest["shards"] = len(work.records)
        replace_file(target / journal.MANIFEST, journal.canonical(manifest))
        return Restatement(digest, totals, work.bytes_read, work.bytes_written)

    def take_over(self, part: Part, target: Path, observer: Observer) -> Restatement:
        """Make ``target`` a second name of the part, or a copy where the file system cannot. Every byte is checked."""
        done = 0

        def told(name: str, nbytes: int) -> None:
            nonlocal done
            done += nbytes
            observer.progress(Progress("check", part.folder.name, 0, 0, done, 0))

        assert part.head.statistics is not None  # nothing is taken over from an empty merge
        for problem in check_generation(part.folder, part.head.statistics, told):
            raise FatalError(
                f"{part.origin}: {problem}",
                hint="Run `mergenode verify` on that node; damaged statistics have to be restored from a backup.",
            )
        if not linked(part.folder, target):
            copy_directory(part.folder, target)
        return Restatement(part.head.statistics, part.head.totals, bytes_read=done)


def linked(source: Path, target: Path) -> bool:
    """Give the files of ``source`` second names below ``target``; False where the file system or its rights forbid it.

    Raises OSError for everything else.
    """
    try:
        link_directory(source, target)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        remove_tree(target)
        return False
    return True
