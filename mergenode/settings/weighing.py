"""How much of a contribution is folded, and what it must not harm."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mergenode.settings.quantities import PLAIN_NAME, ConfigPath
from mergenode.settings.section import REQUIRED, Section, setting

_Importance = Annotated[float, Field(strict=True, gt=0)]


class WeighSettings(Section):
    """The weight of a contribution: as its marker says, or what the task plug-in finds best; see docs/weigh.md."""

    name: Literal["fixed", "fit"] = setting(
        "fixed",
        "fixed: the weight of the commit marker, or 1; fit: a quadratic through the scores of trial merges decides.",
        unit="name",
        why="scores take data that only you have",
    )
    evaluations: int = setting(
        9,
        "Scores that one contribution takes.",
        unit="evaluations",
        why="three numbers per task are fitted, the rest averages noise out",
        ge=6,
        le=30,
    )
    lowest: float = setting(
        0.1,
        "Smallest weight that is tried.",
        unit="factor",
        why="what deserves less need not be folded",
        gt=0,
    )
    highest: float = setting(
        1.5,
        "Largest weight that is tried.",
        unit="factor",
        why="a newcomer rarely deserves more than it asked for",
        gt=0,
    )
    objective: Literal["mean"] | dict[str, _Importance] = setting(
        "mean",
        "What is made as large as possible: the mean of all scores, or that of some by their importance.",
        unit="mean, or mapping of score names to numbers above 0",
        why="all tasks count alike unless you know better",
    )
    max_fall: float | None = setting(
        None,
        "How far no score may fall below that of the merge without the newcomer; null: no bound.",
        unit="score",
        why="what a score is worth depends on your plug-in",
        ge=0,
        strict=True,
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.lowest >= self.highest:
            raise ValueError("lowest below highest")
        if self.objective == {}:
            raise ValueError("an objective with at least one task, or mean")
        return self


class ProtectSettings(Section):
    """A capability that contributions must not harm, known by a Fisher; see docs/protect.md."""

    name: str = setting(
        REQUIRED,
        "What you call it.",
        unit="name of letters, digits, '.', '_' and '-', at most 63",
        why="it is shown beside what was vetoed",
        pattern=PLAIN_NAME,
    )
    fisher: ConfigPath = setting(
        REQUIRED,
        "Diagonal Fisher on the data of the capability, as `mergenode sidecar --fisher` writes it.",
        unit="path of a *.fisher.safetensors",
        why="only you have that data",
    )
    checkpoint: ConfigPath | None = setting(
        None,
        "Full checkpoint that the Fisher was taken of; null: the base.",
        unit="path",
        why="what the base can do is what most want to keep",
    )
    max_rise: float | None = setting(
        0.005,
        "How far one contribution may raise the loss of the capability, as predicted; null: no such bound.",
        unit="units of the loss",
        why="predictions are low where a model is sure of itself, see docs/protect.md",
        ge=0,
        strict=True,
    )
    max_share: float | None = setting(
        None,
        "Share of a contribution's own predicted rise that may stay; null: no such bound.",
        unit="share, 0 to 1",
        why="it would take something of harmless contributions too",
        ge=0,
        le=1,
        strict=True,
    )

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.max_rise is None and self.max_share is None:
            raise ValueError("max_rise or max_share, or nothing would ever be vetoed")
        return self
