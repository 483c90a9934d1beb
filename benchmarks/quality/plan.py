"""What is merged and scored: for every setting and method the orders, the sizes and the scales."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from blake3 import blake3

from benchmarks.quality.contestants import Contestant
from benchmarks.quality.experts import Expert, Setting, experts_of
from benchmarks.quality.tasks import TASKS

ORDERS = 3
PARTS = ("first", "sweeps", "orders")
"""Of a campaign: every size in the order as listed, the scales, the other orders."""

SCALES = (0.5, 0.7, 0.85, 1.0, 1.3)
"""Factors of a method's own export that are swept."""

SIZES: Mapping[str, Sequence[int]] = {
    "small": (2, 4),
    "light": (2, 4, 8, 9),
    "strong": (2, 4, 8, 9),
    "many": (9, 18, 36),
}
"""Numbers of contributions whose merge is scored on every task that they come from."""

NOT_SWEPT = (
    "average", "OPCM block, literal", "OPCM block_orthogonal", "OPCM diagonal", "OPCM paper",
    "DARE 0.5", "MagMax", "WIDEN",
)  # fmt: skip
"""The average is task arithmetic at another scale; the others were far from the best at their own."""

REFINED: Mapping[str, Sequence[int]] = {"small": (), "light": (8,), "strong": (9,), "many": ()}
"""Numbers of contributions whose merge is refined: where merges of weights do not reach the goal. It takes an hour."""

GOALS: Mapping[str, Sequence[int]] = {"small": (), "light": (8,), "strong": (9,), "many": (36,)}
"""Numbers of contributions that a goal is set for or a default is chosen from: there every row is scored in every
order."""

SWEPT: Mapping[str, Sequence[int]] = {"small": (), "light": (8,), "strong": (9,), "many": (18, 36)}
"""Numbers of contributions at which the scale is swept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One stream: ``experts`` in order of arrival, exported and scored at every count of ``sizes``.

    ``transfer``: also scored after every fold, on the task just folded. ``swept``: counts at which the scale is swept.
    ``rows``: test rows per task, None for all.
    """

    setting: Setting
    contestant: Contestant
    order: int
    experts: tuple[Expert, ...]
    sizes: tuple[int, ...]
    swept: tuple[int, ...]
    transfer: bool
    rows: int | None

    @property
    def key(self) -> str:
        """Changes with everything that the result depends on."""
        options = json.dumps(dict(self.contestant.options), sort_keys=True, default=repr)
        recipe = self.setting.recipe
        parts = (
            self.setting.name, recipe.rows, recipe.epochs, [expert.name for expert in self.experts], self.sizes,
            self.swept, SCALES, self.transfer, self.rows, self.contestant.method, options,
            self.contestant.code,
        )  # fmt: skip
        return blake3(repr(parts).encode()).hexdigest()[:24]


def arrival(experts: Sequence[Expert], order: int) -> tuple[Expert, ...]:
    """The ``order``-th order of arrival, counted from 1: as listed, then fixed random ones."""
    arranged = list(experts)
    if order > 1:
        random.Random(order).shuffle(arranged)
    return tuple(arranged)


def first_job(setting: Setting, contestant: Contestant, rows: int | None) -> Job:
    """The order as listed: all sizes in one stream, and transfer where experts are one per task."""
    sizes = tuple((REFINED if contestant.refined else SIZES)[setting.name])
    return Job(
        setting=setting,
        contestant=contestant,
        order=1,
        experts=experts_of(setting, TASKS)[: max(sizes)],
        sizes=sizes,
        swept=(),
        transfer=setting.shards == 1 and not contestant.refined,
        rows=rows,
    )


def sweep_job(setting: Setting, contestant: Contestant, rows: int | None) -> Job | None:
    """The scale swept, in the order as listed; None where there is nothing to sweep."""
    swept = tuple(SWEPT[setting.name])
    if not swept or contestant.label in NOT_SWEPT or contestant.needs_side_cars or contestant.refined:
        return None
    job = first_job(setting, contestant, rows)
    return replace(job, experts=job.experts[: max(swept)], sizes=(), swept=swept, transfer=False)


def other_jobs(setting: Setting, contestant: Contestant, rows: int | None, sizes: Sequence[int] = ()) -> list[Job]:
    """Other orders of the same experts, one stream per size and order. ``sizes``: these of the plan, () for all."""
    return [
        Job(
            setting=setting,
            contestant=contestant,
            order=order,
            experts=arrival(experts_of(setting, TASKS)[:size], order),
            sizes=(size,),
            swept=(),
            transfer=False,
            rows=rows,
        )
        for order in range(2, ORDERS + 1)
        for size in (REFINED if contestant.refined else SIZES)[setting.name]
        if not sizes or size in sizes
    ]
