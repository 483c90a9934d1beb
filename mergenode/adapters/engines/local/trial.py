"""A merge as a model that nobody but its judges sees: written into a directory of the caller, and removed by him."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from mergenode.adapters.checkpoints.side_files import side_files
from mergenode.adapters.durable import disk_errors, remove_tree
from mergenode.adapters.engines.local import journal
from mergenode.adapters.engines.local.engine import LocalEngine, run_observed
from mergenode.adapters.engines.local.export import ExportPass
from mergenode.adapters.engines.local.shards import shard_layout
from mergenode.adapters.engines.local.statistics_files import StatisticsFiles
from mergenode.adapters.engines.local.updates import UpdatePass
from mergenode.adapters.engines.local.version import VersionExport
from mergenode.ports.observer import Observer


def write_trial(
    engine: LocalEngine, statistics: Path, totals: Mapping[str, float], target: Path, observer: Observer, subject: str
) -> Path:
    """Write the model that these statistics would be published as, with the side files of the base; its directory.

    ``statistics``: the folder of a finished fold, committed or not. ``target``: a directory of this trial alone; what
    lies there is removed first. ``subject``: for progress.

    Durability: none, a trial is made again after a kill. Memory: that of an export.

    Raises:
        FatalError: the statistics are damaged, or the memory limit cannot hold the export.
        TransientError: the disk is full or failing.
        Stopped: the node is stopping.
    """
    scratch = target.with_name(f"{target.name}.scratch")

    def run(work: ExportPass | UpdatePass, part: str) -> None:
        told = ("evaluate", f"{subject}, {part}" if part else subject)
        window, threads = engine.export_window(), engine.resources.threads
        run_observed(work.steps(), work, engine.base, window, told, observer, threads, engine.stop)

    with disk_errors(target), engine.open_base() as files, ExitStack() as stack:
        for folder in (target, scratch):
            remove_tree(folder)
        target.mkdir(parents=True)
        records = {index: journal.load_record(statistics, index) for index in range(len(shard_layout(engine.base)))}
        opened = StatisticsFiles(statistics, records)
        stack.callback(opened.close)
        fields = engine.export_fields(files) | {"scratch": scratch}
        VersionExport(
            **fields, totals=totals, statistics=opened, staging=target, run=run, durable=False,
            warn=lambda text, hint: observer.message("warning", f"{subject}: {text}", hint=hint),
        ).write()  # fmt: skip
        for side_file in side_files(engine.base_path):
            place = target / side_file.relative_to(engine.base_path)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(side_file, place)
    return target
