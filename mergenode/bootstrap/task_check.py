"""``mergenode task check`` and the check at the start of a node, composed: what the plug-in can do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mergenode.adapters.tasks.worker import TaskWorker
from mergenode.daemon.task_features import refuse_missing
from mergenode.errors import FatalError, TransientError
from mergenode.ports.task import FEATURES, METHODS, TaskOptions


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one method. ``works`` None: the plug-in does not have it."""

    method: str
    unlocks: tuple[str, ...]
    works: bool | None
    said: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Unlocked:
    """Whether a feature can be used. ``missing``: methods that are not there, ``failing``: that did not work."""

    feature: str
    needs: tuple[str, ...]
    missing: tuple[str, ...]
    failing: tuple[str, ...]

    @property
    def ready(self) -> bool:
        return not (self.missing or self.failing)


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


def unlocked(tried: Iterable[Tried]) -> tuple[Unlocked, ...]:
    """Every feature, given what came of every method."""
    works: Mapping[str, bool | None] = {one.method: one.works for one in tried}
    return tuple(
        Unlocked(
            feature,
            needs,
            missing=tuple(name for name in needs if works[name] is None),
            failing=tuple(name for name in needs if works[name] is False),
        )
        for feature, needs in FEATURES.items()
    )


def require_features(
    options: TaskOptions, wanted: Collection[str], *, stop: Callable[[], bool] = lambda: False
) -> None:
    """Refuse a node whose plug-in lacks a method for ``wanted``, features of ``ports.task.FEATURES``.

    Starts the plug-in's process for a moment, unless nothing is wanted. Raises UsageError, naming methods and features;
    FatalError, TransientError: the class itself cannot be made; Stopped: ``stop`` asked for it.
    """
    if not wanted:
        return
    offered: Collection[str] = ()
    if options.entrypoint is not None:
        with TaskWorker(options, stop=stop) as worker:
            offered = worker.methods()
    refuse_missing(options.entrypoint, offered, wanted)
