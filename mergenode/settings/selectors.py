"""The section ``selector``: which contributions of the pool are folded, and with which weight."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from mergenode.settings.section import Section, setting


class SelectorSettings(Section):
    """What is folded of what is offered. All but the name is for frank_wolfe; see docs/selection.md."""

    name: Literal["all", "frank_wolfe"] = setting(
        "all",
        "What is folded: all | frank_wolfe (what lowers the loss of the task plug-in).",
        unit="name",
        why="choosing needs data and a loss, which only you have",
    )
    granularity: Literal["model", "layers"] = setting(
        "model",
        "What gets a weight: every contribution as a whole, or each of its layer groups.",
        unit="name",
        why="one number per contribution is easier to explain and harder to fit to noise",
    )
    variant: Literal["hard", "soft"] = setting(
        "hard",
        "Vertices of one round: the best one, or several whose coefficients are fitted.",
        unit="name",
        why="it asks the plug-in for the fewest losses",
    )
    vertices: int = setting(
        4,
        "soft: how many of the best take part in one round.",
        unit="contributions",
        why="a round with more asks for many losses and gains little",
        ge=2,
        le=64,
    )
    step: Literal["line_search", "schedule"] = setting(
        "line_search",
        "hard: how far a round goes, by the loss along the way or by 2 / (round + 2).",
        unit="name",
        why="the loss never rises then, and a first guess is not thrown away",
    )
    away: bool = setting(
        True,
        "line_search: a round may also take weight off the worst that has some.",
        unit="true or false",
        why="else what was chosen early keeps crumbs of weight for ever",
    )
    rounds: int = setting(
        10,
        "Most rounds of one selection.",
        unit="rounds",
        why="the first few gain most and each reads the pool once",
        ge=1,
        le=10_000,
    )
    gap: float = setting(
        0.01,
        "A selection ends when the duality gap is below this share of the loss.",
        unit="share of the loss",
        why="no choice can be better by more than the gap, for a convex loss",
        ge=0,
        lt=1,
    )
    longest: float | None = setting(
        2.0,
        "Task vectors longer than so many times the pool's median norm count as that long; null: as they are.",
        unit="times the median",
        why="a score grows with length, so one wildly scaled contribution would be chosen whatever it does",
        gt=0,
    )
    weights: Literal["auto", "barycentric", "relative"] = setting(
        "auto",
        "What the method gets: the shares of the mix, the shares scaled to a mean of 1, or by the method.",
        unit="name",
        why="task_arithmetic with scale 1 is then exactly the mix that was chosen, and the others keep their own size",
    )
    floor: float = setting(
        0.01,
        "Shares below this are not folded; the base has them.",
        unit="share of the model",
        why="a fold costs the same whatever its weight",
        ge=0,
        lt=1,
    )
    index: bool = setting(
        True,
        "Large pools are read only as far as sketches of their task vectors leave it open who is best.",
        unit="true or false",
        why="a sketch of 128 KiB answers for most of the pool",
    )
    exact: int = setting(
        32,
        "index: pools of up to so many contributions are always read completely.",
        unit="contributions",
        why="everything has an exact score then, and reading so few is quick",
        ge=0,
    )
    batches: int | None = setting(
        None,
        "Most calibration batches of the plug-in that are used; null: all.",
        unit="batches",
        why="the plug-in knows how many it needs",
        ge=1,
    )
    limit: int | None = setting(
        None,
        "Most contributions that the pool keeps: whose merits the others have as well is evicted; null: unbounded.",
        unit="contributions",
        why="what is not chosen costs a sketch of 128 KiB and may serve later",
        ge=1,
    )
    edition: int = setting(
        1,
        "Raise it when data or loss of the plug-in changed: the pool is chosen from again then.",
        unit="number",
        why="a node cannot see what your code reads",
        ge=1,
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.step == "schedule" and self.away and "away" in self.model_fields_set:
            raise ValueError("away: false with step: schedule, which has no steps away from a contribution")
        return self

    def weights_for(self, method: str) -> Literal["barycentric", "relative"]:
        """What ``weights`` means for a method. ``auto``: a sum of task vectors takes the shares themselves; methods
        with a size of their own would shrink with them, so they take a mean of 1."""
        if self.weights != "auto":
            return self.weights
        return "barycentric" if method == "task_arithmetic" else "relative"

    @property
    def away_steps(self) -> bool:
        """Whether rounds may take weight off."""
        return self.away and self.step == "line_search"
