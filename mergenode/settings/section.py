"""What all sections have in common: strict, frozen, every field with unit, default and reason."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """A frozen group of settings. Unknown keys are errors; a section left empty takes all its defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, value: object) -> object:
        # "http:" with every line below it commented out is null in YAML; people mean the defaults.
        return {} if value is None else value


REQUIRED: Any = ...


def setting(default: Any, what: str, *, unit: str, why: str, **constraints: Any) -> Any:
    """A field whose description states its unit, its default and the reason for the default.

    Args:
        default: The value as a user would write it (validated like one), or ``REQUIRED``.
        what: One sentence on what the setting does, with its full stop.
        unit: Unit or kind of value: ``seconds``, ``bytes``, ``path``, ``name`` ...
        why: The reason for the default, completing "because".
        constraints: Passed to pydantic's ``Field`` (``ge``, ``pattern``, ...).
    """
    stated = "none, it must be given" if default is REQUIRED else _as_yaml(default)
    description = f"{what} Unit: {unit}. Default: {stated}, because {why}."
    if isinstance(default, int | float):
        constraints.setdefault("strict", True)  # keep: true is not 1, and "3" is a text
    return Field(default, description=description, **constraints)


def subsection(section: type[Section], what: str) -> Any:
    """A section that may be left out, with all its defaults."""
    return Field(default={}, description=what, json_schema_extra={"default": {}}, validate_default=True)


def _as_yaml(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    return str(value) if value != "" else '""'
