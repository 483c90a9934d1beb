"""One version's weight files, whatever its scale is: a number, or chosen when the version is made."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.checkpoints.side_files import side_files
from mergenode.adapters.checkpoints.weights import WeightFiles
from mergenode.adapters.durable import remove_tree
from mergenode.adapters.engines.local.export import ExportPass, output_spec
from mergenode.adapters.engines.local.reuse import NotAsRemembered, Reuse, export_keys, recall, remember
from mergenode.adapters.engines.local.scale_choice import Choice, evaluated_scale
from mergenode.adapters.engines.local.statistics_files import StatisticsFiles
from mergenode.adapters.engines.local.updates import StoredUpdates, UpdatePass
from mergenode.methods.contract import Method
from mergenode.methods.rescale import asked_scale, at_scale, is_chosen_later, mean_norm, norm_rule, scale_in_use
from mergenode.methods.scale_search import DEFAULT_LIMITS, SearchLimits
from mergenode.methods.scaling import EVALUATE
from mergenode.ports.engine import NOTHING_EARLIER, Earlier, Evaluator, ScaleReport
from mergenode.types import DType

RunPass = Callable[[ExportPass | UpdatePass, str], None]
"""Runs all steps of a pass; the text says which part of the export it is, empty for the version itself."""


@dataclass(slots=True, kw_only=True)
class VersionExport:
    """Exports one merge into ``staging``.

    ``scratch`` is a directory of this export alone, made when it is needed and removed at the end. ``memory`` is the
    file that remembers what the next export may share with this one; None: nothing is shared.
    """

    base: BaseModel
    base_path: Path
    base_files: WeightFiles
    method: Method
    totals: Mapping[str, float]
    statistics: StatisticsFiles | None
    staging: Path
    scratch: Path
    dtype: DType | None
    device: torch.device
    run: RunPass
    warn: Callable[[str, str], None]
    durable: bool = True
    memory: Path | None = None
    earlier: Earlier = NOTHING_EARLIER
    evaluator: Evaluator | None = None
    limits: SearchLimits = DEFAULT_LIMITS

    def write(self) -> tuple[ExportPass, ScaleReport]:
        """Write all weight files and the index. Returns the pass, run, and what it says about scales.

        Raises UsageError when the factors of the method make a tensor too large for finite numbers.
        """
        if not is_chosen_later(self.method) or self.statistics is None:
            choice = Choice(scale_in_use(self.method, self.totals))
            work = self._version(choice.scale, None)
            return work, scale_report(self.method, self.totals, choice, work.update_norm)
        remove_tree(self.scratch)
        self.scratch.mkdir(parents=True)
        try:
            measuring = self._measuring(self.statistics)
            self.run(measuring, "norm")
            measuring.refuse_overflow()
            with closing(measuring.stored()) as updates:
                choice = self._chosen(measuring.norm, updates)
                work = self._version(choice.scale, updates)
            return work, scale_report(self.method, self.totals, choice, work.update_norm, norm=measuring.norm)
        finally:
            remove_tree(self.scratch)

    def _measuring(self, statistics: StatisticsFiles) -> UpdatePass:
        return UpdatePass(
            base=self.base, base_files=self.base_files, method=self.method, totals=self.totals, statistics=statistics,
            folder=self.scratch, device=self.device,
        )  # fmt: skip

    def _chosen(self, norm: float, updates: StoredUpdates) -> Choice:
        own, rule = self.method.own_scale(self.totals), norm_rule(self.totals, norm)
        if asked_scale(self.method) != EVALUATE:
            return Choice(rule if rule is not None else own)

        def candidate(scale: float) -> Path:
            folder = self.scratch / "candidate"
            remove_tree(folder)
            folder.mkdir()
            self._run_export(self._export(folder, scale, updates, durable=False), f"scale {scale:.4g}")
            copy_side_files(self.base_path, folder)
            return folder

        return evaluated_scale(
            candidate, self.evaluator, own=own, norm_rule=rule, earlier=self.earlier, limits=self.limits, warn=self.warn
        )

    def _export(self, folder: Path, scale: float, updates: StoredUpdates | None, *, durable: bool) -> ExportPass:
        return ExportPass(
            base=self.base,
            base_files=self.base_files,
            method=at_scale(self.method, scale) if is_chosen_later(self.method) else self.method,
            totals=self.totals,
            statistics=self.statistics,
            staging=folder,
            dtype=self.dtype,
            device=self.device,
            durable=durable,
            scale=scale,
            updates=updates,
        )

    def _version(self, scale: float, updates: StoredUpdates | None) -> ExportPass:
        """The version itself; what it shares with the one before is taken from there, and remembered for the next."""
        work = self._export(self.staging, scale, updates, durable=self.durable)
        if self.memory is None:
            self._run_export(work, "")
            return work
        targets = {spec.name: output_spec(spec, self.dtype) for spec in self.base.specs.values()}
        keys = export_keys(self.base, targets, self.method, scale, self.totals, self.statistics, self.device)
        previous = Path(self.earlier.previous) if self.earlier.previous is not None else None
        reuse = recall(self.memory, previous)
        if reuse is not None:
            work = self._sharing(work, reuse, keys, lambda: self._export(self.staging, scale, updates, durable=True))
        else:
            self._run_export(work, "")
        squares = {name: sum(parts) for name, parts in work.squares.items()}
        outputs = {output: [spec.name for spec in members] for output, members in work.members().items()}
        remember(self.memory, self.staging, outputs, keys, work.digests, squares)
        return work

    def _sharing(
        self, work: ExportPass, reuse: Reuse, keys: Mapping[str, str], afresh: Callable[[], ExportPass]
    ) -> ExportPass:
        work.reuse, work.keys = reuse, keys
        try:
            with closing(reuse):
                self._run_export(work, "")
            return work
        except NotAsRemembered as difference:
            hint = "Every tensor of this version is computed; `mergenode verify` names what is damaged."
            self.warn(f"nothing is shared with {reuse.folder.name}: {difference}", hint)
        again = afresh()
        self._run_export(again, "")
        return again

    def _run_export(self, work: ExportPass, part: str) -> None:
        self.run(work, part)
        work.refuse_overflow()
        if len(self.base_files.files) > 1:
            work.write_index()


def copy_side_files(base_path: Path, folder: Path) -> None:
    """Put the base's other files (configuration, tokenizer) beside weights, so that a plug-in can load them."""
    for side_file in side_files(base_path):
        target = folder / side_file.relative_to(base_path)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(side_file, target)


def scale_report(
    method: Method, totals: Mapping[str, float], choice: Choice, update_norm: float, *, norm: float | None = None
) -> ScaleReport:
    """What a version says about scales. ``norm``: ||M||; None: what ``update_norm`` at the chosen scale implies."""
    if norm is None:
        norm = update_norm / abs(choice.scale) if choice.scale else 0.0
    return ScaleReport(
        used=choice.scale,
        own=method.own_scale(totals),
        norm_rule=norm_rule(totals, norm),
        update_norm=update_norm,
        mean_norm=mean_norm(totals),
        evaluated=choice.points,
    )
