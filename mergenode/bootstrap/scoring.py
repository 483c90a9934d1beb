"""What scores published versions, composed from the settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mergenode.adapters.tasks.worker import TaskWorker
from mergenode.ports.engine import Evaluator
from mergenode.ports.observer import Observer
from mergenode.ports.task import FEATURES, VERSION_SCORES
from mergenode.settings import Settings


def scorer_of(settings: Settings, observer: Observer, stop: Callable[[], bool]) -> Evaluator | None:
    """The task plug-in in a process of its own for every version; None: there is none, or nobody wants scores.

    A plug-in that cannot evaluate gives no scores: that is told once, and it is not started again.
    """
    task, able = settings.task, True
    if task.entrypoint is None or task.evaluate == "never":
        return None

    def nothing(checkpoint: Path) -> Mapping[str, float]:
        return {}

    @contextmanager
    def scoring() -> Iterator[Callable[[Path], Mapping[str, float]]]:
        nonlocal able
        if not able:
            yield nothing
            return
        with TaskWorker(task, stop=stop) as worker:
            missing = sorted(set(FEATURES[VERSION_SCORES]) - worker.methods())
            able = not missing
            if missing:
                lacks = " and no ".join(f"{name}()" for name in missing)
                observer.message("info", f"versions are not scored: {task.entrypoint} has no {lacks}")
            yield worker.evaluate if able else nothing

    return scoring
