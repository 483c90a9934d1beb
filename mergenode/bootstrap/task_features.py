"""Which features of the task plug-in the settings of a node ask for, checked when the node starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mergenode.bootstrap.task_check import require_features
from mergenode.errors import TransientError
from mergenode.ports.observer import Observer
from mergenode.ports.task import EVALUATION_GATE, FRANK_WOLFE_SIGN_GATE, WEIGHT_FIT
from mergenode.settings import Settings


def require_wanted(settings: Settings, observer: Observer, stop: Callable[[], bool]) -> None:
    """Refuse a node whose plug-in cannot do what its gates and its weighing ask for.

    A plug-in that does not answer now is told of, and asked again when it is needed: versions in place stay served.
    Raises UsageError, naming methods and features; FatalError: there is no such plug-in.
    """
    try:
        require_features(settings.task, tuple(wanted_features(settings)), stop=stop)
    except TransientError as error:
        observer.message("warning", f"the task plug-in does not answer: {error.message}", hint=error.hint)


def wanted_features(settings: Settings) -> Iterator[str]:
    """Features of ``ports.task.FEATURES``, besides those that are checked where they are composed."""
    active = {name for name, _, _ in settings.gates.active()}
    if "evaluation" in active:
        yield EVALUATION_GATE
    if "frank_wolfe_sign" in active:
        yield FRANK_WOLFE_SIGN_GATE
    if settings.weigh.name == "fit":
        yield WEIGHT_FIT
