"""What is run on which pool: the rows of the tables, in the order in which they are worth the time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.selection.suite import IRRELEVANT, OTHER_TASKS, RELEVANT, Candidate, irrelevant, other_tasks, relevant
from mergenode.selectors.contract import Options

SCREENS = ("none", "clip", "gate")
"""What is done about long task vectors before a selection, see ``screening``."""


@dataclass(frozen=True, slots=True)
class Pool:
    """``relevant`` experts of the targets beside ``others`` of ``kind`` (irrelevant, or other tasks)."""

    kind: str
    relevant: int
    others: int = 0

    @property
    def label(self) -> str:
        return f"{self.relevant} relevant, {self.others} {self.kind}" if self.others else f"{self.relevant} relevant"

    def members(self, seed: int) -> tuple[Candidate, ...]:
        added = irrelevant if self.kind == "irrelevant" else other_tasks
        return (*relevant(seed, self.relevant), *added(seed, self.others))


@dataclass(frozen=True, slots=True)
class Row:
    """A way to choose. ``follow``: methods that then merge what was chosen, with the weights that it got."""

    label: str
    options: Options
    follow: tuple[str, ...] = ()


HARD = Row("FW hard", Options(variant="plain", step="schedule", rounds=8), ("opcm", "iso", "tsvm"))
AWAY = Row("FW hard, away steps, line search", Options(variant="away", step="line", rounds=5))
SOFT = Row("FW soft", Options(step="line", soft=4, inner=4, rounds=2))
HARD_GROUPS = Row("FW hard, by layer group", Options(variant="plain", step="schedule", rounds=8, by_group=True))
SOFT_GROUPS = Row("FW soft, by layer group", Options(step="line", soft=4, inner=4, rounds=2, by_group=True))

FIRST = Pool("irrelevant", RELEVANT[0])
SPOILED = tuple(Pool("irrelevant", RELEVANT[0], count) for count in IRRELEVANT[1:])
WORST = SPOILED[-1]
OF_OTHER_TASKS = tuple(Pool("other tasks", RELEVANT[0], count) for count in OTHER_TASKS[1:])
MORE = tuple(Pool("irrelevant", count) for count in RELEVANT[1:])
POOLS = (FIRST, *SPOILED, *OF_OTHER_TASKS, *MORE)


@dataclass(frozen=True, slots=True)
class Job:
    """One selection."""

    row: Row
    pool: Pool
    screen: str


def jobs() -> Iterator[Job]:
    """All selections, the most telling ones first. Pools that lead through the same points cost nothing more."""
    for row in (HARD, AWAY, SOFT, HARD_GROUPS, SOFT_GROUPS):
        yield from (Job(row, pool, "clip") for pool in (FIRST, WORST))
    for row in (HARD, AWAY):
        yield from (Job(row, pool, screen) for screen in ("none", "gate") for pool in (FIRST, WORST))
    yield from (Job(HARD, pool, "clip") for pool in (*MORE, *SPOILED[:-1], *OF_OTHER_TASKS))
