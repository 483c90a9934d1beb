"""What is run: splits of the data, methods, seeds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from mergenode.demo.peers.fashion import SPLITS
from mergenode.demo.peers.network import Recipe
from mergenode.demo.peers.ring import ACTIVATIONS, LOCAL, PLAIN, WEIGHTS

ROUNDS = 8
SEEDS = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class Row:
    """``method``: of ``Circle.play``. ``final``: what one average of all nodes at the end is scored as, None: not."""

    name: str
    label: str
    method: str
    same_start: bool = False
    shared: bool = False
    final: str | None = None


ROWS = (
    Row("local", "local only", LOCAL, final="matched"),
    Row("plain", "plain averaging", PLAIN, final="plain"),
    Row("weights", "weight matching", WEIGHTS),
    Row("activations", "activation matching", ACTIVATIONS, final="matched"),
    Row("shared", "activation matching, shared images", ACTIVATIONS, shared=True),
    Row("same", "plain averaging, same start", PLAIN, same_start=True, final="plain"),
)
NEEDS_SKEW = {"shared"}
"""Rows that say nothing new where all nodes have alike data."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One run: five nodes for so many rounds."""

    split: str
    row: Row
    seed: int
    rounds: int
    recipe: Recipe

    @property
    def name(self) -> str:
        """Of its result's file: with all that the result depends on."""
        told = json.dumps([self.rounds, asdict(self.recipe)], sort_keys=True)
        return f"{self.split}-{self.row.name}-{self.seed}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"


def cells(
    rounds: int, seeds: tuple[int, ...], recipe: Recipe, splits: tuple[str, ...] = tuple(SPLITS)
) -> Iterator[Cell]:
    """All runs; those that share a first training follow each other."""
    for seed in seeds:
        for split in splits:
            for row in ROWS:
                if split != "iid" or row.name not in NEEDS_SKEW:
                    yield Cell(split, row, seed, rounds, recipe)
