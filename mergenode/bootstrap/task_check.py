"""``mergenode task check``, composed: every method of the plug-in once, each in the way a node would call it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mergenode.adapters.tasks.worker import TaskWorker
from mergenode.errors import FatalError, TransientError
from mergenode.ports.task import METHODS, TaskOptions


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one method. ``works`` None: the plug-in does not have it."""

    method: str
    unlocks: tuple[str, ...]
    works: bool | None
    said: str
    hint: str = ""


def try_task(options: TaskOptions, base: Path) -> Iterator[Tried]:
    """Call every method of the plug-in once on the base, and say what it is good for.

    Raises:
        UsageError: the settings name no plug-in. FatalError, TransientError: the class itself cannot be made.
    """
    with TaskWorker(options) as worker:
        offered = worker.methods()
        for method, unlocks in METHODS.items():
            if method not in offered:
                yield Tried(method, unlocks, None, "not there")
                continue
            try:
                yield Tried(method, unlocks, True, worker.try_method(method, base))
            except (FatalError, TransientError) as error:
                yield Tried(method, unlocks, False, error.message, error.hint)
