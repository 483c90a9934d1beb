"""``mergenode merge``: the engine of the daemon, run once over models in a given order, without a ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from mergenode.adapters.checkpoints.contribution import Contribution, open_contribution
from mergenode.adapters.checkpoints.regular_file import trusted_root
from mergenode.adapters.checkpoints.weights import WeightFiles
from mergenode.adapters.durable import disk_errors, free_bytes, remove_tree
from mergenode.adapters.engines.local import journal
from mergenode.adapters.engines.local.content import finish_content
from mergenode.adapters.engines.local.direct import DirectPass, largest_direct
from mergenode.adapters.engines.local.engine import LocalEngine, run_observed
from mergenode.adapters.engines.local.export import ExportPass
from mergenode.adapters.engines.local.fold import FoldPass
from mergenode.adapters.engines.local.incoming import Source
from mergenode.adapters.engines.local.memory import DEFAULT_WINDOW_BYTES
from mergenode.adapters.engines.local.report import (
    NO_SUMS,
    Tensors,
    all_tensors,
    finite_sums,
    group_reports,
    relative_norm,
)
from mergenode.adapters.engines.local.scale_choice import Choice
from mergenode.adapters.engines.local.shards import shard_layout
from mergenode.adapters.engines.local.statistics_files import StatisticsFiles
from mergenode.adapters.engines.local.surveying import surveys
from mergenode.adapters.engines.local.tensors import needs_whole
from mergenode.adapters.engines.local.updates import UpdatePass
from mergenode.adapters.engines.local.version import VersionExport, scale_report
from mergenode.errors import FatalError, RejectedError
from mergenode.methods.rescale import is_chosen_later, scale_in_use
from mergenode.ports.engine import ScaleReport
from mergenode.ports.observer import Observer
from mergenode.types import Digest, FoldResult

BATCH = 8
"""Models per pass: bounds open files and buffers, whatever the number of models."""

_RATE = 150e6
"""Bytes per second of a cautious estimate; a projection adds its own time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergePlan:
    """What a merge will take, told before it starts. Bytes, and seconds as a rough estimate."""

    models: int
    parameters: int
    read_bytes: int
    write_bytes: int
    disk_needed: int
    disk_free: int
    memory_bytes: int
    seconds: float
    one_pass: bool


@dataclass(slots=True, kw_only=True)
class OneShot:
    """A merge of ``models`` into ``staging``; ``engine.folding`` and ``engine.generations`` lie in a scratch folder."""

    engine: LocalEngine
    models: Sequence[tuple[Path, float]]
    staging: Path
    scratch: Path
    accept: Callable[[str, float, FoldResult], None] = lambda path, weight, result: None
    """Told path, weight and result of every model that was folded, before the export where that is another pass; raises
    RejectedError to call the merge off."""
    results: list[FoldResult] = field(default_factory=list)
    tensors: dict[str, Digest] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)
    scale: ScaleReport | None = None

    @property
    def one_pass(self) -> bool:
        """Whether the export can follow the folds at once: no figure of the whole merge is needed, all models fit."""
        method = self.engine.method
        if method.needs_totals or is_chosen_later(method) or len(self.models) > BATCH:
            return False
        need = largest_direct(self.engine.base, method, self.engine.publish_dtype, len(self.models))
        return need <= self.engine.available_bytes()

    def plan(self) -> MergePlan:
        """Validate every header and add up what the merge takes.

        Raises:
            RejectedError: one of the models cannot be merged; the message names it.
            FatalError: the memory limit cannot hold the largest step, or the disk cannot hold the result.
        """
        base = self.engine.base
        size = sum(spec.nbytes for spec in base.specs.values())
        looks = 2 if surveys(self.engine.method) else 1  # a survey reads what a fold reads
        read = 0
        for path, _ in self.models:
            with self._open(path) as contribution:
                read += looks * sum(files.total_bytes for files in contribution.files)
        factor = self.engine.method.state_factor
        statistics = sum(int(spec.numel * 4 * factor(spec)) for specs in shard_layout(base) for spec in specs)
        memory = self.engine.check_memory()
        passes = 0 if self.one_pass else -(-len(self.models) // self.engine.most_sources(BATCH))
        written = size + passes * statistics
        read += size * (looks * max(passes, 1) + min(passes, 1)) + passes * statistics
        # Two generations of statistics stand side by side while more than one batch is folded.
        needed = size + min(passes, 2) * statistics + (16 << 20)
        plan = MergePlan(
            models=len(self.models),
            parameters=sum(spec.numel for spec in base.specs.values()),
            read_bytes=read,
            write_bytes=written,
            disk_needed=needed,
            disk_free=free_bytes(self.staging),
            memory_bytes=memory,
            seconds=(read + written) / _RATE + self._projection_seconds(),
            one_pass=self.one_pass,
        )
        if plan.disk_needed > plan.disk_free:
            raise FatalError(
                f"{self.staging.parent}: the merge needs {needed / 1e9:.2f} GB of disk, {plan.disk_free / 1e9:.2f} GB "
                "are free",
                hint="Free space there or choose another --output; nothing was written.",
            )
        return plan

    def _projection_seconds(self) -> float:
        """Decompositions of square side k take about 14 k^3 operations; 60 G of them a second and thread, with room."""
        whole = [spec for spec in self.engine.base.specs.values() if spec.dtype.is_float]
        work = sum(
            14.0 * min(spec.shape) ** 3 + 6.0 * min(spec.shape) ** 2 * max(spec.shape)
            for spec in whole
            if len(spec.shape) == 2 and needs_whole(self.engine.method, spec)
        )
        return work * max(0, len(self.models) - 1) / (60e9 * self.engine.resources.threads)

    def run(self, observer: Observer) -> None:
        """Merge. ``staging`` holds the weight files on return; everything in ``scratch`` may be removed.

        Raises RejectedError for the first model that cannot be merged.
        """
        with disk_errors(self.staging):
            if self.one_pass:
                self._direct(observer)
            else:
                self._through_statistics(observer)

    def _direct(self, observer: Observer) -> None:
        for _, weight in self.models:
            self.totals = dict(self.engine.method.advance(self.totals, NO_SUMS, weight))
        with ExitStack() as stack:
            files = stack.enter_context(self.engine.open_base())
            sources = [stack.enter_context(self._open(path)) for path, _ in self.models]
            work = DirectPass(
                base=self.engine.base,
                base_files=files,
                method=self.engine.method,
                totals=self.totals,
                statistics=None,
                staging=self.staging,
                dtype=self.engine.publish_dtype,
                device=self.engine.resources.torch_device(),
                durable=False,
                sources=[
                    Source(contribution, weight, str(path))
                    for contribution, (path, weight) in zip(sources, self.models, strict=True)
                ],
            )
            self._run(work, min(self.engine.available_bytes(), DEFAULT_WINDOW_BYTES), observer)
            if len(files.files) > 1:
                work.write_index()
            self._complete(work, files)
            totals: dict[str, float] = {}
            for number, source in enumerate(work.sources):
                totals = self._judge(source, work.tensors(), number, totals)
            work.refuse_overflow()  # after the models were judged: one of them may be the reason
            self.totals = totals
            method = self.engine.method
            self.scale = scale_report(method, totals, Choice(scale_in_use(method, totals)), work.update_norm)

    def _through_statistics(self, observer: Observer) -> None:
        previous: Path | None = None
        while len(self.results) < len(self.models):
            folder = self.scratch / f"from-{len(self.results)}"
            folder.mkdir(parents=True)
            self._fold_batch(folder, previous, observer)
            if previous is not None:
                remove_tree(previous)
            previous = folder
        assert previous is not None
        count = len(shard_layout(self.engine.base))
        records = {index: journal.load_record(previous, index) for index in range(count)}
        with self.engine.open_base() as files, closing(StatisticsFiles(previous, records)) as statistics:
            work, self.scale = VersionExport(
                **self.engine.export_fields(files),
                totals=self.totals,
                statistics=statistics,
                staging=self.staging,
                run=lambda work, part: self._run(work, self.engine.export_window(), observer, part),
                warn=lambda text, hint: observer.message("warning", text, hint=hint),
                durable=False,
            ).write()
            self._complete(work, files)

    def _fold_batch(self, folder: Path, previous: Path | None, observer: Observer) -> None:
        """Fold the next models into ``folder``, as many at once as memory holds: the bytes do not depend on it."""
        first = len(self.results)
        with ExitStack() as stack:
            work = FoldPass(
                base=self.engine.base,
                base_files=stack.enter_context(self.engine.open_base()),
                sources=[],
                method=self.engine.method,
                folder=folder,
                previous=previous,
                device=self.engine.resources.torch_device(),
                durable=False,
            )
            for path, weight in self.models[first : first + BATCH]:
                work.sources.append(Source(stack.enter_context(self._open(path)), weight, str(path)))
                if len(work.sources) > 1 and not self.engine.holds(work):
                    work.sources.pop()
                    break
            self._run(work, self.engine.window(work, len(work.sources)), observer)
            tensors = all_tensors(work.records)
            for number, source in enumerate(work.sources):
                self.totals = self._judge(source, tensors, number, self.totals)

    def _judge(self, source: Source, tensors: Tensors, number: int, totals: Mapping[str, float]) -> dict[str, float]:
        """Record what the fold of one model found out; returns the totals after it."""
        source.contribution.assert_unchanged()
        content = finish_content(source)
        sums = finite_sums(tensors, number, source.label, source.weight)
        after = dict(self.engine.method.advance(totals, sums, source.weight))
        result = FoldResult(
            content=content,
            kind=source.contribution.kind,
            statistics=content,
            totals=after,
            norm=sums["delta_sq"] ** 0.5,
            relative_norm=relative_norm(self.engine.base, tensors, number),
            groups=group_reports(self.engine.base, tensors, number),
            warnings=source.contribution.warnings,
        )
        self.accept(source.label, source.weight, result)
        self.results.append(result)
        return after

    def _open(self, path: Path) -> Contribution:
        try:
            return open_contribution(
                path, self.engine.base, root=trusted_root(path), limits=self.engine.limits,
                needs=self.engine.method.needs,
            )  # fmt: skip
        except RejectedError as error:
            raise RejectedError(error.reason, f"{path}: {error.message}", hint=error.hint) from error

    def _run(self, work: FoldPass | ExportPass | UpdatePass, window: int, observer: Observer, part: str = "") -> None:
        activity = "fold" if isinstance(work, FoldPass) else "publish"
        subject = (activity, f"{len(self.models)} models" + (f", {part}" if part else ""))
        resources = self.engine.resources
        run_observed(
            work.steps(), work, self.engine.base, window, subject, observer, resources.threads, self.engine.stop
        )

    def _complete(self, work: ExportPass, files: WeightFiles) -> None:
        files.assert_unchanged()
        self.tensors = work.digests
