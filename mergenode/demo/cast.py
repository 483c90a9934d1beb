"""Who appears in the demo: the base, six teams with their fine-tunes, and three pushes that go wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mergenode.demo.checkpoints import write_adapter, write_damaged, write_diverged, write_full
from mergenode.demo.network import NetworkConfig, Weights
from mergenode.demo.tasks import TASKS, Digits, Task
from mergenode.demo.training import Adapter, Schedule, fine_tune, fine_tune_adapter, train_base

BASE_SEED, STRANGER_SEED, FIRST_EXPERT_SEED = 1, 2, 10
STRANGER_SCHEDULE = Schedule(steps=300, rate=1e-3)
ADAPTER_TASK = "clean"
MARKED_TASKS = frozenset({"slanted", "stained"})
"""Pushed with a commit marker; the others are renamed into place."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One push: ``write`` makes the checkpoint in a directory that does not exist yet."""

    name: str
    what: str
    write: Callable[[Path], Path]
    task: Task | None = None
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Cast:
    """Everything that was trained. ``experts`` by task name, adapters already applied to the base."""

    digits: Digits
    config: NetworkConfig
    base: Weights
    experts: dict[str, Weights]
    adapters: dict[str, Adapter]
    stranger: Weights


def train_cast(digits: Digits, progress: Callable[[str], None]) -> Cast:
    """Train the base, six experts and a stranger; ``progress`` is told what begins."""
    config = NetworkConfig()
    progress("the base model")
    base = train_base(digits, config, BASE_SEED)
    experts: dict[str, Weights] = {}
    adapters: dict[str, Adapter] = {}
    for seed, task in enumerate(TASKS, FIRST_EXPERT_SEED):
        progress(f"the expert for {task.name}: {task.story}")
        if task.name == ADAPTER_TASK:
            adapters[task.name] = fine_tune_adapter(base, task, digits, config, seed)
            experts[task.name] = adapters[task.name].applied_to(base)
        else:
            experts[task.name] = fine_tune(base, task, digits, config, seed)
    progress("a model of another base")
    stranger = train_base(digits, config, STRANGER_SEED, STRANGER_SCHEDULE)
    return Cast(digits, config, base, experts, adapters, stranger)


def deliveries(cast: Cast, base: Path) -> tuple[Delivery, ...]:
    """All pushes in the order of the story: six good ones, three that must not get in."""
    good = {task.name: _expert(cast, task, base) for task in TASKS}
    first = cast.experts[TASKS[0].name]
    damaged = Delivery("damaged", "a file with a few bytes lost", lambda path: write_damaged(path, first, cast.config))
    stranger = Delivery(
        "stranger", "a model of another base, same shapes", lambda path: write_full(path, cast.stranger, cast.config)
    )
    diverged = Delivery("diverged", "a fine-tune full of NaN", lambda path: write_diverged(path, first, cast.config))
    return (
        good["tilted"], good["slanted"], damaged, good["clean"], stranger, good["copied"], diverged, good["stained"],
        good["negative"],
    )  # fmt: skip


def _expert(cast: Cast, task: Task, base: Path) -> Delivery:
    marked = task.name in MARKED_TASKS
    if task.name in cast.adapters:
        return Delivery(
            task.name, "LoRA adapter", lambda path: write_adapter(path, cast.adapters[task.name], base), task, marked
        )
    return Delivery(
        task.name, "full checkpoint", lambda path: write_full(path, cast.experts[task.name], cast.config), task, marked
    )
