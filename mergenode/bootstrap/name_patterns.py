"""Name patterns of the section ``method`` that are about no tensor of the base: slips of the pen, mostly."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.methods.linear_maps import DEFAULT_EXCLUDE
from mergenode.ports.observer import Observer
from mergenode.settings import Settings


def warn_of_idle_patterns(settings: Settings, base: BaseModel, observer: Observer) -> None:
    """A warning for each name pattern of the settings that no merged tensor of the base matches."""
    for option, pattern in idle_patterns(settings, base):
        observer.message(
            "warning",
            f"method.{option}: the pattern {pattern!r} matches no tensor of the base",
            hint="It changes nothing; patterns are held against whole names, and of tied weights against the first.",
        )


def idle_patterns(settings: Settings, base: BaseModel) -> Iterator[tuple[str, str]]:
    """Option and pattern; what stands in a list by default is meant for other models."""
    names = [name for name, spec in base.specs.items() if spec.dtype.is_float and name not in base.aliases]
    for option in ("profile", "exclude", "include"):
        patterns = settings.method.options.get(option)
        for pattern in patterns if isinstance(patterns, dict | tuple) else ():
            if pattern not in DEFAULT_EXCLUDE and not any(fnmatchcase(name, pattern) for name in names):
                yield option, pattern
