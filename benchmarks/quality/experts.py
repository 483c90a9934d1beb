"""The three settings of experts and where their checkpoints lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.quality.encoder import extract_base
from benchmarks.quality.tasks import TASKS, load_task
from benchmarks.quality.training import Recipe, train_expert


@dataclass(frozen=True, slots=True)
class Setting:
    """``shards``: experts per task, each with its own disjoint rows, order of rows and name."""

    name: str
    recipe: Recipe
    shards: int = 1


SETTINGS = {
    "small": Setting("small", Recipe(rows=640, epochs=1)),
    "light": Setting("light", Recipe(rows=1280, epochs=1)),
    "strong": Setting("strong", Recipe(rows=2000, epochs=2)),
    "many": Setting("many", Recipe(rows=1000, epochs=2), shards=4),
}


@dataclass(frozen=True, slots=True)
class Expert:
    """One contribution to be merged."""

    setting: Setting
    task: str
    shard: int = 0

    @property
    def name(self) -> str:
        return self.task if self.setting.shards == 1 else f"{self.task}-{self.shard}"

    def checkpoint(self, work: Path) -> Path:
        return work / "experts" / self.setting.name / self.name


def experts_of(setting: Setting, tasks: Sequence[str] = TASKS) -> tuple[Expert, ...]:
    """The contributions in the order as listed: one shard of every task, then the next shard of every task."""
    return tuple(Expert(setting, task, shard) for shard in range(setting.shards) for task in tasks)


def train_all(setting: Setting, work: Path, tasks: Sequence[str], say: Callable[[str], None]) -> None:
    """Extract the base and train the experts that are missing, one after another on one thread."""
    torch.set_num_threads(1)
    work.mkdir(parents=True, exist_ok=True)
    base = extract_base(work / "base")
    for expert in experts_of(setting, tasks):
        target = expert.checkpoint(work)
        if target.exists():
            continue
        task = load_task(expert.task)
        rows = task.shard(expert.shard, setting.shards)
        train_expert(base, task, rows, setting.recipe, seed=100 + expert.shard, target=target)
        say(f"trained {setting.name} {expert.name}")
