"""Whether the section ``method`` makes a method: the settings know each option, the methods which go together."""

from __future__ import annotations

from pathlib import Path

from mergenode.errors import UsageError
from mergenode.methods import build_method
from mergenode.methods.contract import Method
from mergenode.methods.scaling import EVALUATE
from mergenode.settings import Settings, place_of


def method_of(settings: Settings) -> Method:
    """The merge method that the settings name. Raises UsageError when its options do not go together."""
    return build_method(settings.method.name, settings.method.options)


def check_method(settings: Settings, file: Path) -> Method:
    """The method of the settings in ``file``, before anything is read or created for it.

    Raises:
        UsageError: options that do not go together, or ask for a plug-in that the settings do not name; the message
        begins with file and line.
    """
    try:
        refuse_unscored(settings)
        return method_of(settings)
    except UsageError as error:
        raise UsageError(f"{place_of(file, ('method',))}: {error.message}", hint=error.hint) from error


def refuse_unscored(settings: Settings) -> None:
    """Raises UsageError when the method asks for scores and the settings name no plug-in."""
    if settings.task.entrypoint is None and settings.method.options.get("scale") == EVALUATE:
        raise UsageError(
            "method.scale is evaluate, but the settings name no task plug-in",
            hint="Name one with task.entrypoint (see docs/tasks.md), or set method.scale to own or norm_match.",
        )
