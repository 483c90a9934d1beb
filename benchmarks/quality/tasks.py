"""The nine text classification tasks of ``data/`` and the fixed draws that training and scoring take from them."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

DATA = Path(__file__).with_name("data")
TASKS = ("wordnet", "debsec", "lang", "fortune", "bible", "austen", "spam", "names", "sotu")
"""In the order in which a run of fewer tasks takes them."""

PROTOTYPE_ROWS = 16
Row = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Task:
    """One task: ``train`` and ``test`` hold (text, class) rows."""

    name: str
    labels: tuple[str, ...]
    train: tuple[Row, ...]
    test: tuple[Row, ...]

    def prototype_rows(self) -> list[Row]:
        """16 training rows of each class: what the frozen head is made of, the same for every expert of the task."""
        rows = shuffled(self.train, seed=0)
        chosen: list[Row] = []
        for label in range(len(self.labels)):
            chosen += [row for row in rows if row[1] == label][:PROTOTYPE_ROWS]
        return chosen

    def shard(self, number: int, count: int) -> list[Row]:
        """The ``number``-th of ``count`` disjoint parts of the training rows, in a fixed random order."""
        return shuffled(self.train, seed=1)[number::count]

    def test_rows(self, cap: int | None) -> list[Row]:
        """All test rows, or the first ``cap`` of a fixed random order."""
        return list(self.test) if cap is None else shuffled(self.test, seed=2)[:cap]


def shuffled(rows: Sequence[Row], seed: int) -> list[Row]:
    """A copy in an order that depends on ``seed`` and the number of rows only."""
    copy = list(rows)
    random.Random(seed).shuffle(copy)
    return copy


@cache
def load_task(name: str) -> Task:
    """Read one task. Raises ValueError for a row whose class has no label."""
    with gzip.open(DATA / f"{name}.json.gz", "rt", encoding="utf-8") as file:
        record = json.load(file)
    task = Task(
        name=record["name"],
        labels=tuple(record["labels"]),
        train=tuple((text, label) for text, label in record["train"]),
        test=tuple((text, label) for text, label in record["test"]),
    )
    if any(not 0 <= label < len(task.labels) for _, label in task.train + task.test):
        raise ValueError(f"{name}: a row names a class without a label")
    return task
