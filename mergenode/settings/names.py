"""The names of all settings, derived from the sections: for suggestions, documentation and tests."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from pydantic.fields import FieldInfo

from mergenode.settings.document import Where
from mergenode.settings.methods import METHOD_SECTIONS
from mergenode.settings.registries import RegistrySettings
from mergenode.settings.section import Section
from mergenode.settings.tree import Settings
from mergenode.settings.weighing import ProtectSettings

_LISTS: dict[str, type[Section]] = {"registries": RegistrySettings, "protect": ProtectSettings}


def settings_fields() -> Iterator[tuple[str, FieldInfo]]:
    """Every leaf setting by its dotted name, in the order of the sections.

    Fields of listed sections are ``registries[].url``, ``protect[].name``; an option of a method is
    ``method.alpha (opcm)``.
    """
    yield from _fields(Settings, "")


def _fields(section: type[Section], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in section.model_fields.items():
        inner = _inner(field)
        if prefix == "" and name == "method":
            for method, options in METHOD_SECTIONS.items():
                yield from ((f"method.{option} ({method})", info) for option, info in options.model_fields.items())
        elif inner is not None:
            yield from _fields(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field
            if prefix == "" and name in _LISTS:
                yield from _fields(_LISTS[name], f"{name}[].")


def _inner(field: FieldInfo) -> type[Section] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


@cache
def setting_names() -> tuple[str, ...]:
    """Dotted names as a user writes them, without duplicates: ``publish.keep``, ``method.alpha``."""
    return tuple(dict.fromkeys(name.partition(" ")[0] for name, _ in settings_fields()))


def children(parent: Where, method: str | None = None) -> list[str]:
    """The keys that are valid directly below ``parent``; below ``method`` those of the given method."""
    if method is not None:
        return list(METHOD_SECTIONS[method].model_fields)
    prefix = "".join("[]" if isinstance(step, int) else f".{step}" for step in parent).lstrip(".")
    start = f"{prefix}." if prefix else ""
    names = (name[len(start) :] for name in setting_names() if name.startswith(start))
    return list(dict.fromkeys(name.partition(".")[0].partition("[")[0] for name in names))
