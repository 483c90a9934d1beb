"""Making a merge again without some of its contributions: subtract them, or replay the others."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mergenode.adapters.checkpoints.contribution import open_contribution
from mergenode.adapters.checkpoints.regular_file import trusted_root
from mergenode.adapters.durable import disk_errors, link_directory, remove_tree, rename_directory, replace_file
from mergenode.adapters.engines.local import journal
from mergenode.adapters.engines.local.content import finish_content
from mergenode.adapters.engines.local.engine import LocalEngine, run_observed
from mergenode.adapters.engines.local.fold import FoldPass
from mergenode.adapters.engines.local.incoming import Source
from mergenode.adapters.engines.local.own_files import reading_own
from mergenode.adapters.engines.local.report import all_tensors, finite_sums
from mergenode.adapters.engines.local.shards import carry_shard, shard_layout
from mergenode.adapters.observers.fan_out import FanOut
from mergenode.adapters.presence import is_there
from mergenode.errors import RejectedError, RejectReason, TransientError, TransientReason
from mergenode.ledger.restatement import Replay, Subtract
from mergenode.ports.activity import ActivityKind
from mergenode.ports.observer import Observer, Progress
from mergenode.ports.restater import Restatement
from mergenode.types import Candidate, Digest, Head

REPLAYING = "replaying"
"""Scratch of a replay, beside the folding folder: generations of its own, one finished fold after another."""


@dataclass(frozen=True, slots=True)
class LocalRestater:
    """Implements ports.restater.Restater with the passes of the local engine."""

    engine: LocalEngine

    @property
    def _scratch(self) -> Path:
        return self.engine.folding.with_name(REPLAYING)

    def is_at_hand(self, candidate: Candidate) -> bool:
        return is_there(candidate.location)

    def clear(self) -> None:
        with disk_errors(self._scratch):
            remove_tree(self._scratch)

    def restate(self, way: Subtract | Replay, observer: Observer) -> Restatement:
        try:
            if isinstance(way, Subtract):
                return self._subtract(way, observer)
            return self._replay(way, observer)
        except TransientError as error:
            if error.reason is not TransientReason.VANISHED:
                raise
            raise RejectedError(
                RejectReason.GONE,
                error.message,
                hint="Bring the files back to where they were folded from.",
            ) from error

    # ---- subtract

    def _subtract(self, way: Subtract, observer: Observer) -> Restatement:
        """One pass that takes all of them out, tensor by tensor."""
        engine = self.engine
        with disk_errors(engine.folding), engine.open_base() as files, ExitStack() as stack:
            sources = [self._open(candidate, stack) for candidate in way.removed]
            stamps = [journal.stamps_of(source.contribution.files) for source in sources]
            journal.open_folder(engine.folding, self._plan(way, stamps))
            work = FoldPass(
                base=engine.base,
                base_files=files,
                sources=sources,
                method=engine.method,
                folder=engine.folding,
                previous=engine.generation_folder(way.head.generation),
                device=engine.resources.torch_device(),
                retracting=True,
                veto_bytes=engine.veto_bytes,
            )
            for source in sources:
                stack.enter_context(engine.guarded(source, files, observer))
            self._run(work, way, observer)
            for source, candidate, stamp in zip(sources, way.removed, stamps, strict=True):
                self._assert_is(candidate, finish_content(source))
                source.contribution.assert_unchanged()
                journal.assert_same(source.contribution.files, stamp)
            with reading_own("base"):
                files.assert_unchanged()
            return self._finish(work, way)

    def _open(self, candidate: Candidate, stack: ExitStack) -> Source:
        path = Path(candidate.location)
        opened = open_contribution(
            path, self.engine.base, root=trusted_root(path), limits=self.engine.limits, needs=self.engine.method.needs
        )
        return Source(stack.enter_context(opened), candidate.weight, candidate.name, candidate.profile)

    def _plan(self, way: Subtract, stamps: list[list[list[str | int]]]) -> dict[str, Any]:
        return {
            "subtract": [[candidate.content, candidate.location, candidate.weight] for candidate in way.removed],
            "files": stamps,
            "generation": way.head.generation,
            "statistics": way.head.statistics,
            "base": self.engine.base.digest,
        }

    def _run(self, work: FoldPass, way: Subtract, observer: Observer) -> None:
        engine = self.engine
        subject = ("retract", ", ".join(candidate.name for candidate in way.removed[:3]))
        window = engine.window(work, len(way.removed))
        run_observed(work.steps(), work, engine.base, window, subject, observer, engine.resources.threads, engine.stop)

    def _finish(self, work: FoldPass, way: Subtract) -> Restatement:
        withdraw = self.engine.method.withdraw
        assert withdraw is not None  # the plan asked
        tensors = all_tensors(work.records)
        totals = dict(way.head.totals)
        for number, candidate in enumerate(way.removed):
            totals = dict(withdraw(totals, finite_sums(tensors, number, candidate.name), candidate.weight))
        statistics = {name: tensor["statistics"] for name, tensor in tensors.items()}
        digest = _write_manifest(self.engine.folding, len(work.records), totals, statistics)
        return Restatement(digest, totals, work.bytes_read, work.bytes_written)

    # ---- replay

    def _replay(self, way: Replay, observer: Observer) -> Restatement:
        """Fold onto a snapshot in a scratch folder; its last generation gets a second name as the folding folder.

        The scratch stays until the result is committed (``clear``): a kill between the two costs no fold.
        """
        with disk_errors(self._scratch), _Replaying(observer, len(way.folded)) as observed:
            done, head = self._taken_up(way)
            observed.finished(done)
            engine = replace(self.engine, folding=self._scratch / "folding", generations=self._scratch)
            read = written = 0
            for number, candidate in enumerate(way.folded[done:], start=done + 1):
                observer.message("info", f"replay: {candidate.name!r}, {number} of {len(way.folded)}")
                result = engine.fold(candidate, head, observed)
                self._assert_is(candidate, result.content)
                generation = head.generation + 1
                rename_directory(engine.folding, engine.generation_folder(generation))
                remove_tree(engine.generation_folder(generation - 1))
                head = Head(generation, head.count + 1, result.totals, result.statistics)
                read, written = read + result.bytes_read, written + result.bytes_written
            link_directory(engine.generation_folder(head.generation), self.engine.folding)
        assert head.statistics is not None  # even of an empty merge there is a manifest
        return Restatement(head.statistics, head.totals, read, written)

    def _taken_up(self, way: Replay) -> tuple[int, Head]:
        """How many contributions of this replay are folded already, and the scratch generation that holds them."""
        plan = {
            "start": [way.start.generation, way.start.statistics],
            "fold": [[candidate.content, candidate.weight] for candidate in way.folded],
        }
        first = 1  # the scratch generation that stands for the start
        journal.open_folder(self._scratch, plan)
        there = [int(path.name[1:]) for path in self._scratch.glob("g????????")]
        if not there:
            self._begin(way, self._scratch / f"g{first:08d}")
        generation = max(there, default=first)
        for older in there:
            if older < generation:
                remove_tree(self._scratch / f"g{older:08d}")
        manifest = journal.load_manifest(self._scratch / f"g{generation:08d}")
        head = Head(generation, generation - first, manifest["totals"], Digest(manifest["statistics"]))
        return generation - first, head

    def _begin(self, way: Replay, folder: Path) -> None:
        building = self._scratch / "folding"
        remove_tree(building)
        if way.start.generation:
            link_directory(self.engine.generation_folder(way.start.generation), building)
        else:
            building.mkdir()
            layout = shard_layout(self.engine.base)
            for index, specs in enumerate(layout):
                carry_shard(building, index, specs, sources=0, previous=None)
            names: dict[str, dict[str, str]] = {spec.name: {} for specs in layout for spec in specs}
            _write_manifest(building, len(layout), {}, names)
        rename_directory(building, folder)

    def _assert_is(self, candidate: Candidate, content: Digest) -> None:
        if content != candidate.content:
            raise RejectedError(
                RejectReason.DIGEST_MISMATCH,
                f"{candidate.name}: {candidate.location} now holds {content}, the merge holds {candidate.content}",
                hint="The files were replaced since they were folded: bring the original back.",
            )


class _Replaying(FanOut):
    """Tells the folds of a replay as one piece of work: each takes as many bytes as any other. A context manager."""

    def __init__(self, observer: Observer, folds: int) -> None:
        super().__init__([observer])
        self._folds, self._done, self._before, self._free = folds, 0, 0, 0
        self._last = Progress(ActivityKind.REPLAY, f"{folds} contributions", 0, folds, 0, 0, step="contributions")

    def __enter__(self) -> Self:
        super().progress(self._last)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().progress(replace(self._last, over=True))

    def finished(self, folds: int) -> None:
        """So many were folded by an earlier life."""
        self._done = self._before = folds

    def progress(self, progress: Progress) -> None:
        if progress.activity != ActivityKind.FOLD:
            super().progress(progress)
            return
        each, under_way = progress.bytes_total, progress.bytes_done
        free = self._free + progress.free_bytes
        if progress.over and under_way == each:
            self._done, self._free, under_way = self._done + 1, free, 0
        self._last = replace(
            self._last, tensors_done=self._done, bytes_done=each * self._done + under_way,
            bytes_total=each * self._folds, free_bytes=each * self._before + free,
        )  # fmt: skip
        super().progress(self._last)


def _write_manifest(folder: Path, shards: int, totals: dict[str, float], statistics: dict[str, Any]) -> Digest:
    """The manifest of finished statistics that no single contribution stands for. Durable on return."""
    digest = journal.digest_of({"content": None, "totals": totals, "tensors": statistics})
    manifest: dict[str, Any] = {"statistics": digest, "content": None, "totals": totals, "shards": shards, "groups": []}
    replace_file(folder / journal.MANIFEST, journal.canonical(manifest))
    return digest
