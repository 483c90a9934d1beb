"""The section ``task``: the plug-in that knows what the model is for, and what it may use."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from mergenode.settings.quantities import ConfigPath, Size
from mergenode.settings.section import Section, setting

LEAST_MEMORY = 256 << 20


class TaskSettings(Section):
    """Your own class with any of build_model, calibration_batches, loss, train, evaluate; see docs/tasks.md."""

    entrypoint: str | None = setting(
        None,
        "Class of the plug-in as package.module:Class; null: none, and what needs one is refused.",
        unit="module and class",
        why="merging itself needs no data",
    )
    path: ConfigPath | None = setting(
        None,
        "Directory in which the module is looked for first; null: where Python looks anyway.",
        unit="path",
        why="an installed package is found by its name",
    )
    memory_limit: Size = setting(
        "4GiB",
        "Most private memory that the plug-in's process may allocate.",
        unit="bytes, or text such as 4GiB",
        why="a small model fits and a leak ends before the machine does",
        ge=LEAST_MEMORY,
    )
    timeout: float = setting(
        600.0,
        "How long one call of the plug-in may take before its process is ended.",
        unit="seconds",
        why="a score that takes longer would hold up every version",
        gt=0,
        le=604_800,
    )

    evaluate: Literal["every_version", "never"] = setting(
        "every_version",
        "When published versions are scored, if the plug-in has evaluate().",
        unit="every_version or never",
        why="a score that falls is what drift is about; the next fold waits for it, at most timeout",
    )

    @field_validator("memory_limit", mode="after")
    @classmethod
    def _room_for_an_interpreter(cls, value: int) -> int:
        # The bound of the field is for the schema: pydantic does not hold a plain validator's result against it.
        if value < LEAST_MEMORY:
            raise ValueError(f"at least {LEAST_MEMORY >> 20}MiB, which Python and torch take by themselves")
        return value

    @field_validator("entrypoint", mode="after")
    @classmethod
    def _module_and_class(cls, value: str | None) -> str | None:
        if value is None:
            return None
        module, colon, name = value.partition(":")
        if not colon or not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
            raise ValueError("a module and a class such as my_package.task:Task")
        return value
