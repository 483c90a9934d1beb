"""The settings of publishing."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import field_validator, model_validator

from mergenode.settings.quantities import resolve_path
from mergenode.settings.section import Section, setting, subsection
from mergenode.types import LARGEST_FACTOR


class EverySettings(Section):
    """When a new version is published: as soon as one of the two is reached and something new was folded."""

    contributions: int | None = setting(
        1,
        "Publish after this many new contributions; null leaves it to seconds.",
        unit="contributions",
        why="an always-fresh model is the point, and publishing costs less than folding",
        ge=1,
    )
    seconds: float | None = setting(
        None,
        "Publish when the last version is this old; null leaves it to contributions.",
        unit="seconds",
        why="every contribution is published at once anyway",
        ge=0,
        strict=True,
    )

    @model_validator(mode="after")
    def _something_publishes(self) -> Self:
        if self.contributions is None and self.seconds is None:
            raise ValueError("at least one of contributions and seconds, or nothing would ever be published")
        return self


class ScaleSearchSettings(Section):
    """The bounds of the search for a scale, where method.scale is evaluate."""

    lowest: float = setting(
        0.1,
        "Smallest scale that is tried.",
        unit="factor",
        why="less than a tenth of the update is hardly a merge",
        gt=0,
    )
    highest: float = setting(
        3.0,
        "Largest scale that is tried.",
        unit="factor",
        why="no model that we measured was best above twice the method's own",
        gt=0,
        le=LARGEST_FACTOR,
    )
    evaluations: int = setting(
        9,
        "Most scales that are tried for one version.",
        unit="evaluations",
        why="scores are flat around the best scale",
        ge=1,
        le=100,
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.lowest > self.highest:
            raise ValueError("lowest at most highest")
        return self


class PublishSettings(Section):
    """Where versions appear and in which form."""

    path: Path = setting(
        "./published",
        "Directory that holds the versions and the link 'latest'.",
        unit="path",
        why="it lies beside the settings file, apart from the private state",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto",
        "Element type of published float weights; auto keeps the base's, tensor by tensor.",
        unit="dtype name",
        why="whatever serves the base then serves the merge",
    )
    keep: int = setting(
        5,
        "How many versions stay on disk, the newest included; the one behind 'latest' always stays.",
        unit="versions",
        why="a reader that started on an older one can finish, at five times the size of the base",
        ge=1,
    )
    hold_seconds: float = setting(
        0.0,
        "A new fold shows in metrics, history and alerts for so long before the version that holds it appears; folding "
        "waits meanwhile. Not with --once.",
        unit="seconds",
        why="set it to what your alerts need (scrape and rule intervals) and people can retract before readers see it",
        ge=0,
        strict=True,
    )
    every: EverySettings = subsection(EverySettings, "When a new version is published.")
    search: ScaleSearchSettings = subsection(ScaleSearchSettings, "The search of method.scale: evaluate.")
    _path = field_validator("path", mode="plain")(resolve_path)
