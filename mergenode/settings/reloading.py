"""Which settings may change while the node runs, and what becomes of two trees of settings then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticCustomError

from mergenode.errors import UsageError
from mergenode.settings.fitting import check_together
from mergenode.settings.registries import RegistrySettings
from mergenode.settings.section import Section
from mergenode.settings.tree import Settings

RELOADED: Mapping[str, str] = {
    "registries[].poll_seconds": "from the next listing on",
    "gates": "for the next contribution; what is in the merge or in quarantine is not judged again",
    "publish.keep": "after the next version",
    "publish.every": "from now on",
    "publish.hold_seconds": "from now on",
    "validation.max_relative_norm": "for the next contribution",
    "log": "from the next line on",
}
"""Settings, or whole sections, that are taken over by a running node, and when; every other one takes a restart."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """``settings``: what is in force from now on. ``applied`` and ``waiting``: names of settings that differ from those
    before; the latter take a restart, and are as they were in ``settings``."""

    settings: Settings
    applied: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()


def reloaded(running: Settings, wanted: Settings) -> Reloaded:
    """What a running node takes over of other settings.

    Raises UsageError: what may change does not go together with what has to stay until the restart.
    """
    applied: list[str] = []
    waiting: list[str] = []
    settings = _taken(running, wanted, "", applied, waiting)
    assert isinstance(settings, Settings)  # a section stays of its kind
    try:
        check_together(settings)
    except PydanticCustomError as error:
        raise UsageError(
            f"{error.message()}; nothing is taken over, for {', '.join(waiting)} would only change with a restart",
            hint="Restart the node, or change the settings that take a restart back.",
        ) from None
    return Reloaded(settings, tuple(applied), tuple(waiting))


def is_reloaded(name: str) -> bool:
    """Whether a running node takes this setting over. List positions are written ``[]``."""
    return any(name == known or name.startswith((f"{known}.", f"{known}[")) for known in RELOADED)


def _taken(old: Section, new: Section, where: str, applied: list[str], waiting: list[str]) -> Section:
    """``old`` with what may change of ``new``; what differs is noted by name."""
    update: dict[str, Any] = {}
    for field in type(old).model_fields:
        before, after = getattr(old, field), getattr(new, field)
        name = f"{where}{field}"
        if before == after:
            continue
        if _same_places(before, after):
            update[field] = tuple(
                _taken(one, other, f"{name}[].", applied, waiting)
                for one, other in zip(before, after, strict=True)
            )  # fmt: skip
        elif isinstance(before, Section) and type(before) is type(after):
            update[field] = _taken(before, after, f"{name}.", applied, waiting)
        elif is_reloaded(name):
            update[field] = after
            applied.append(name)
        else:
            waiting.append(name)
    return old.model_copy(update=update)


def _same_places(before: object, after: object) -> bool:
    """Both are the same registries in the same order: whatever else they are can be compared."""
    if not (isinstance(before, tuple) and isinstance(after, tuple) and len(before) == len(after)):
        return False
    pairs = [*zip(before, after, strict=True)]
    return all(isinstance(one, RegistrySettings) and one.name == other.name for one, other in pairs)
