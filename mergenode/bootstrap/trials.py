"""The would-be merge, exported and scored by the task plug-in; the merge before it, scored once and remembered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mergenode.adapters.durable import disk_errors, remove_tree
from mergenode.adapters.engines.local.engine import LocalEngine
from mergenode.adapters.engines.local.slope import slope_along
from mergenode.adapters.engines.local.trial import write_trial
from mergenode.adapters.store.trial_files import TrialFiles
from mergenode.errors import FatalError, TransientError, TransientReason, UsageError
from mergenode.gates.evidence import Descent
from mergenode.ports.observer import Observer
from mergenode.ports.publisher import Publisher
from mergenode.types import Candidate, Digest, FoldResult, Head

Answer = TypeVar("Answer")
OpenTask = Callable[[], AbstractContextManager[Any]]
"""Gives a ``TaskWorker`` for the time of a ``with``."""

_NOW, _WOULD_BE = "now", "would-be"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """What trials are made with. ``publisher``: a version of the very merge saves the export of it."""

    engine: LocalEngine
    publisher: Publisher
    observer: Observer
    files: TrialFiles
    open_task: OpenTask

    @contextmanager
    def open(self, head: Head) -> Iterator[Trial]:
        """Trials against the committed merge ``head``, with one process of the plug-in. Nothing of them stays."""
        self.files.sweep()
        try:
            with self.open_task() as worker:
                yield Trial(self, head, worker)
        finally:
            for name in (_NOW, _WOULD_BE):
                with disk_errors(self.files.folder):
                    remove_tree(self.files.folder / name)


@dataclass(frozen=True, slots=True)
class Trial:
    """Every call raises TransientError (TASK_FAILED) when the plug-in fails, whatever it did: the next one may not."""

    trials: Trials
    head: Head
    worker: Any

    def scores(self, result: FoldResult) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """Of the committed merge and of the one with this fold, which lies in the folding folder."""
        before = self._scored(self._merge, self._now)
        return before, self._scored(result.statistics, lambda: self._with(result))

    def descent(self, candidate: Candidate) -> Descent:
        """The slope of the objective at the committed merge along this contribution."""
        files = self.trials.files
        if not files.gradient_is_of(self._merge):
            files.forget_gradient()
            place = self._now()
            with disk_errors(files.folder):
                files.folder.mkdir(parents=True, exist_ok=True)
            asked(lambda: self.worker.gradient(place, files.gradient))
            files.remember_gradient(self._merge)
        try:
            return slope_along(self.trials.engine, candidate, files.gradient)
        except TransientError as error:
            if error.reason is TransientReason.TASK_FAILED:
                files.forget_gradient()  # it is no good, and may be a better one the next time
            raise

    @property
    def _merge(self) -> Digest:
        """What the committed merge is remembered by."""
        return self.head.statistics or self.trials.engine.base.digest

    def _scored(self, merge: Digest, made: Callable[[], Path]) -> Mapping[str, float]:
        known = self.trials.files.scores(merge)
        if known is not None:
            return known
        place = made()
        scores: Mapping[str, float] = asked(lambda: self.worker.evaluate(place))
        self.trials.files.remember(merge, scores)
        return scores

    def _now(self) -> Path:
        """A checkpoint of the committed merge: the base, the version of it, or a trial."""
        head, engine, publisher = self.head, self.trials.engine, self.trials.publisher
        if not head.generation:
            return engine.base_path
        if head.published_generation == head.generation and publisher.holds(head.version):
            return Path(publisher.path(head.version))
        if (self.trials.files.folder / _NOW).is_dir():
            return self.trials.files.folder / _NOW
        return self._written(engine.generation_folder(head.generation), head.totals, _NOW, "committed merge")

    def _with(self, result: FoldResult) -> Path:
        folding, subject = self.trials.engine.folding, f"merge with {result.content[:19]}"
        return self._written(folding, result.totals, _WOULD_BE, subject)

    def _written(self, statistics: Path, totals: Mapping[str, float], name: str, subject: str) -> Path:
        target = self.trials.files.folder / name
        return write_trial(self.trials.engine, statistics, totals, target, self.trials.observer, subject)


def asked(question: Callable[[], Answer]) -> Answer:
    """Ask the plug-in. What would be fatal where nothing goes without its answer only holds up who is judged by it."""
    try:
        return question()
    except UsageError:
        raise
    except FatalError as error:
        raise TransientError(TransientReason.TASK_FAILED, error.message, hint=error.hint) from error
