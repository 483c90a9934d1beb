"""The engine of one machine: opens files, plans memory, runs the passes, leaves durable results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.checkpoints.contribution import Contribution, open_contribution
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.checkpoints.regular_file import trusted_root
from mergenode.adapters.checkpoints.weights import WeightFiles, open_weights
from mergenode.adapters.durable import disk_errors, replace_file
from mergenode.adapters.engines.local import journal
from mergenode.adapters.engines.local.allocator import tune_allocator
from mergenode.adapters.engines.local.content import finish_content, weights_content
from mergenode.adapters.engines.local.export import ExportPass
from mergenode.adapters.engines.local.export_need import largest_export
from mergenode.adapters.engines.local.fold import FoldPass, progress_totals
from mergenode.adapters.engines.local.incoming import Source
from mergenode.adapters.engines.local.memory import (
    largest_need,
    plan_window,
    refuse_factors,
    resident_bytes,
    set_aside,
)
from mergenode.adapters.engines.local.own_files import reading_own
from mergenode.adapters.engines.local.pipeline import run_ordered
from mergenode.adapters.engines.local.protection import (
    Guard,
    Protection,
    RisePass,
    open_guard,
    protect_bytes,
    vetoed_report,
)
from mergenode.adapters.engines.local.report import (
    all_tensors,
    finite_sums,
    group_reports,
    relative_norm,
    vetoed_squares,
)
from mergenode.adapters.engines.local.shards import shard_layout
from mergenode.adapters.engines.local.stages import Stages
from mergenode.adapters.engines.local.statistics_files import StatisticsFiles
from mergenode.adapters.engines.local.updates import UpdatePass
from mergenode.adapters.engines.local.version import VersionExport
from mergenode.errors import FatalError
from mergenode.maths.threads import one_thread
from mergenode.methods.contract import Method
from mergenode.methods.scale_search import DEFAULT_LIMITS, SearchLimits
from mergenode.ports.engine import NOTHING_EARLIER, Earlier, Evaluator, Exported, Stopped
from mergenode.ports.observer import Observer
from mergenode.ports.told import Told
from mergenode.tracing.ids import contribution_trace
from mergenode.tracing.spans import SILENT, Tracer
from mergenode.types import Candidate, Digest, DType, FoldResult, Head, TensorSpec

EXPORTING = ".exporting"
"""Scratch of an export, beside the folding folder; whatever lies there is left over from a kill."""

EXPORTED = "exported.json"
"""What the newest export may share with the next; losing it costs time only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What the engine may use. ``device``: auto, cpu or cuda; ``threads`` compute beside one reader and the writer.

    ``limit_name``, ``exclude_name``: how the user sets the memory limit, and option ``exclude`` of the method (empty
    where options cannot be chosen), for messages.
    """

    memory_limit: int
    threads: int = 1
    device: str = "auto"
    limit_name: str = "engine.memory_limit"
    exclude_name: str = "method.exclude"

    def torch_device(self) -> torch.device:
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise FatalError(
                "engine.device is cuda, but this torch sees no CUDA device",
                hint="Install a CUDA build of torch and check the driver, or set engine.device to cpu.",
            )
        return torch.device(self.device)


@dataclass(slots=True, kw_only=True)
class LocalEngine:
    """Implements ports.engine.Engine. ``stop`` is asked between steps; when it answers True the work is put down."""

    base_path: Path
    base: BaseModel
    method: Method
    folding: Path
    generations: Path
    resources: Resources
    publish_dtype: DType | None = None
    limits: Limits = field(default_factory=Limits)
    stop: Callable[[], bool] = lambda: False
    evaluator: Evaluator | None = None
    """Scores candidates for ``scale: evaluate``."""
    search: SearchLimits = DEFAULT_LIMITS
    tracer: Tracer = SILENT
    protections: tuple[Protection, ...] = ()
    """Capabilities that no contribution may harm; their terms are among the options of the method."""
    _set_aside: int = field(default_factory=set_aside)
    _base_files: tuple[tuple[str, int, int], ...] = ()

    def generation_folder(self, generation: int) -> Path:
        return self.generations / f"g{generation:08d}"

    def check_memory(self) -> int:
        """The most memory a fold or an export will hold, in bytes.

        Raises FatalError when the limit cannot hold one of them for this base: before anything is accepted.
        """
        with self.open_base() as files:
            window = max(self.window(self._fold_pass(files, [], None), sources=1), self.export_window())
            return window + self.process_bytes()

    def fold(self, candidate: Candidate, head: Head, observer: Observer) -> FoldResult:
        with disk_errors(self.folding), self.open_base() as files:
            path = Path(candidate.location)
            # What the operator names himself may be a snapshot of the hub's cache, which links to its blobs.
            root = trusted_root(path) if candidate.forced else None
            with ExitStack() as stack:
                contribution = stack.enter_context(
                    open_contribution(path, self.base, root=root, limits=self.limits, needs=self.method.needs)
                )
                stamps = journal.stamps_of(contribution.files)
                journal.open_folder(self.folding, self._plan(candidate, head, stamps))
                source = Source(contribution, candidate.weight, candidate.name, candidate.profile)
                previous = self.generation_folder(head.generation) if head.generation else None
                work = self._fold_pass(files, [source], previous)
                self._tell_resumption(candidate, observer)
                guard = stack.enter_context(self.guarded(source, files, observer))
                stages = Stages(self.tracer)
                steps = stages.watch(work.steps()) if self.tracer.share else work.steps()
                self._run(steps, work, self.window(work, 1), ("fold", candidate.name), observer)
                stages.tell(contribution_trace(*candidate.key))
                content = finish_content(source)
                contribution.assert_unchanged()
                journal.assert_same(contribution.files, stamps)
                with reading_own("base"):
                    files.assert_unchanged()
                return self._finish(work, content, contribution, candidate, head, guard)

    @contextmanager
    def guarded(self, source: Source, files: WeightFiles, observer: Observer) -> Iterator[Guard | None]:
        """Hold what is protected against ``source``: one more reading of it, after which its vetoes are settled.

        None: nothing is protected. A function of the contribution, its weight and the protections alone, so that it is
        the same for a fold, a replay and a subtraction. Raises as a fold.
        """
        if not self.protections:
            yield None
            return
        with ExitStack() as stack:
            guard = open_guard(self.protections, self.base, self.limits, stack)
            work = RisePass(
                base=self.base, base_files=files, source=source, guard=guard, device=self.resources.torch_device()
            )
            window = self.window(self._fold_pass(files, [source], None), 1)
            self._run(work.steps(), work, window, ("protect", source.label), observer)
            guard.settle()
            source.vetoes = guard
            yield guard

    def _tell_resumption(self, candidate: Candidate, observer: Observer) -> None:
        shards = len(shard_layout(self.base))
        done = sum(journal.finished_shard(self.folding, index) is not None for index in range(shards))
        if done:
            text = f"the fold of {candidate.name!r} is taken up again: {done} of {shards} shards are finished"
            observer.message("info", text)

    def export(self, head: Head, staging: str, observer: Observer, earlier: Earlier = NOTHING_EARLIER) -> Exported:
        version = f"v{head.version + 1:06d}"

        def run(work: ExportPass | UpdatePass, part: str) -> None:
            subject = ("publish", f"{version}, {part}" if part else version)
            self._run(work.steps(), work, self.export_window(), subject, observer)

        with disk_errors(staging), self.open_base() as files, ExitStack() as stack:
            statistics = self._statistics(head.generation) if head.generation else None
            if statistics is not None:
                stack.callback(statistics.close)
            work, scale = VersionExport(
                **self.export_fields(files),
                totals=head.totals,
                statistics=statistics,
                staging=Path(staging),
                run=run,
                warn=lambda text, hint: observer.message("warning", f"{version}: {text}", hint=hint),
                memory=self.folding.with_name(EXPORTED),
                earlier=earlier,
            ).write()
            with reading_own("base"):
                files.assert_unchanged()
            return Exported(work.digests, work.bytes_read, work.bytes_written, scale, work.reused)

    def export_fields(self, files: WeightFiles) -> dict[str, Any]:
        """What every ``VersionExport`` of this engine has in common."""
        return {
            "base": self.base,
            "base_path": self.base_path,
            "base_files": files,
            "method": self.method,
            "scratch": self.folding.with_name(EXPORTING),
            "dtype": self.publish_dtype,
            "device": self.resources.torch_device(),
            "evaluator": self.evaluator,
            "limits": self.search,
        }

    def _statistics(self, generation: int) -> StatisticsFiles:
        folder = self.generation_folder(generation)
        count = len(shard_layout(self.base))
        return StatisticsFiles(folder, {index: journal.load_record(folder, index) for index in range(count)})

    def open_base(self) -> WeightFiles:
        """The base's weight files; the caller closes them.

        Raises FatalError when they are no longer those that were there first: the statistics were made for them.
        """
        with reading_own("base"):
            files = open_weights(self.base_path, root=trusted_root(self.base_path), limits=self.limits)
        found = tuple(files.identities())
        self._base_files = self._base_files or found
        if found != self._base_files:
            files.close()
            raise FatalError(
                f"{self.base_path}: the base was written to while the node was running",
                hint="Start the node again: it checks that this is still the base the state directory was made for.",
            )
        return files

    def _plan(self, candidate: Candidate, head: Head, stamps: list[list[str | int]]) -> dict[str, Any]:
        return {
            "candidate": list(candidate.key),
            "files": stamps,
            "location": candidate.location,
            "weight": candidate.weight,
            "profile": [list(pair) for pair in candidate.profile],
            "generation": head.generation,
            "statistics": head.statistics,
            "base": self.base.digest,
            "method": self.method.name,
            "options": {name: repr(value) for name, value in self.method.options.items()},
        }

    def _fold_pass(self, files: WeightFiles, sources: list[Source], previous: Path | None) -> FoldPass:
        return FoldPass(
            base=self.base,
            base_files=files,
            sources=sources,
            method=self.method,
            folder=self.folding,
            previous=previous,
            device=self.resources.torch_device(),
            veto_bytes=self.veto_bytes,
        )

    def veto_bytes(self, elements: int) -> int:
        """Bytes that the vetoes of one contribution take in a step of so many elements."""
        return protect_bytes(self.protections, elements)

    def window(self, work: FoldPass, sources: int) -> int:
        """Bytes that the steps of a fold may hold in flight under the memory limit.

        Raises FatalError when the limit cannot hold the base's own tensors, RejectedError (TOO_LARGE) when it cannot
        hold what the contributions add to them.
        """
        process = self.process_bytes()
        need, spec = largest_need(self.base, work, sources, factors=False)
        window = self._planned(need, spec, "fold")
        refuse_factors(self.base, work, sources, self.resources.memory_limit - process)
        return window

    def holds(self, work: FoldPass) -> bool:
        """Whether the memory limit can hold a fold of all the sources of this pass at once."""
        need, _ = largest_need(self.base, work, len(work.sources))
        return need <= self.resources.memory_limit - self.process_bytes()

    def most_sources(self, most: int) -> int:
        """How many full checkpoints, up to ``most``, one pass can fold at once under the memory limit."""
        with self.open_base() as files:
            work, available = self._fold_pass(files, [], None), self.resources.memory_limit - self.process_bytes()
            fitting = (count for count in range(most, 1, -1) if largest_need(self.base, work, count)[0] <= available)
            return next(fitting, 1)

    def export_window(self) -> int:
        """Bytes that the steps of an export may hold in flight under the memory limit.

        Raises FatalError when the limit cannot hold the export of one of the base's tensors; the message names it.
        """
        need, spec = largest_export(self.base, self.method, self.publish_dtype)
        return self._planned(need, spec, "export")

    def _planned(self, need: int, spec: TensorSpec | None, activity: str) -> int:
        process = self.process_bytes()
        enough = self._least_need() if need > self.resources.memory_limit - process else 0
        return plan_window(self.resources, need, spec, self.method, process=process, enough=enough, activity=activity)

    def least_memory(self) -> int:
        """The smallest memory limit, in bytes, under which this method folds and exports this base."""
        return self._least_need() + self.process_bytes()

    def _least_need(self) -> int:
        with self.open_base() as files:
            fold, _ = largest_need(self.base, self._fold_pass(files, [], None), 1, factors=False)
        export, _ = largest_export(self.base, self.method, self.publish_dtype)
        return max(fold, export)

    def available_bytes(self) -> int:
        """What the memory limit leaves for work in flight."""
        return self.resources.memory_limit - self.process_bytes()

    def process_bytes(self) -> int:
        """What is not work in flight: set aside at the start, more when the process has outgrown that."""
        return max(self._set_aside, resident_bytes())

    def _run(
        self,
        steps: Any,
        work: FoldPass | ExportPass | UpdatePass | RisePass,
        window: int,
        subject: tuple[str, str],
        observer: Observer,
    ) -> None:
        run_observed(steps, work, self.base, window, subject, observer, self.resources.threads, self.stop)

    def _finish(
        self, work: FoldPass, content: Digest, contribution: Contribution, candidate: Candidate, head: Head,
        guard: Guard | None,
    ) -> FoldResult:  # fmt: skip
        tensors = all_tensors(work.records)
        sums = finite_sums(tensors, 0, candidate.name, candidate.weight)
        totals = dict(self.method.advance(head.totals, sums, candidate.weight))
        identity = {
            "content": content,
            "totals": totals,
            "tensors": {name: tensor["statistics"] for name, tensor in tensors.items()},
        }
        statistics = journal.digest_of(identity)
        result = FoldResult(
            content=content,
            kind=contribution.kind,
            statistics=statistics,
            totals=totals,
            norm=sums["delta_sq"] ** 0.5,
            relative_norm=relative_norm(self.base, tensors, 0),
            groups=group_reports(self.base, tensors, 0),
            bytes_read=work.bytes_read,
            bytes_written=work.bytes_written,
            warnings=contribution.warnings,
            promised=weights_content(work.sources[0]),
            protection={} if guard is None else vetoed_report(guard, vetoed_squares(tensors, 0)),
        )
        manifest = {"statistics": statistics, "content": content, "totals": totals, "shards": len(work.records)}
        manifest["groups"] = [asdict(group) for group in result.groups]
        replace_file(self.folding / journal.MANIFEST, journal.canonical(manifest))
        return result


def run_observed(
    steps: Any, work: FoldPass | ExportPass | UpdatePass | RisePass, base: BaseModel, window: int,
    subject: tuple[str, str],
    observer: Observer, threads: int, stop: Callable[[], bool],
) -> None:  # fmt: skip
    """Run a pass, telling the observer how far it is; raises Stopped between steps when asked to stop."""
    tensors_total, bytes_total = progress_totals(work, base)
    told = Told(observer, *subject, total_steps=tensors_total, total_bytes=bytes_total)

    def until_stopped() -> Any:
        for step in steps:
            if stop():
                raise Stopped(f"{subject[0]} of {subject[1]} put down at tensor {told.steps} of {tensors_total}")
            yield step

    work.advanced = told.add
    if isinstance(work, FoldPass):
        work.taken_over = partial(told.add, free=True)
    tune_allocator()
    try:
        with told, one_thread():
            run_ordered(until_stopped(), threads=threads, budget_bytes=window)
    finally:
        work.close()
