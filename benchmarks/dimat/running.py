"""Runs cells and keeps what they found, each as a file: a run that was stopped goes on where it was."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.dimat.plan import Cell
from mergenode.demo.peers.fashion import load_fashion
from mergenode.demo.peers.network import Recipe
from mergenode.demo.peers.ring import Circle, shared_images

Result = dict[str, Any]


def run(cells: Iterable[Cell], work: Path, say: Callable[[str], None]) -> list[Result]:
    """The result of every cell, from its file if there is one. Durability: a result appears whole."""
    results = []
    (work / "results").mkdir(parents=True, exist_ok=True)
    for cell in cells:
        file = work / "results" / f"{cell.name}.json"
        if not file.exists():
            found = play(cell)
            private = file.with_suffix(f".{os.getpid()}")
            private.write_text(json.dumps(found, indent=1) + "\n")
            private.rename(file)
            last = found["steps"][-1]
            score = sum(last["mixed"]) / len(last["mixed"])
            say(f"{cell.split}, {cell.row.label}, seed {cell.seed}: {score:.3f} ({found['cpu_seconds']:.0f} CPU s)")
        results.append(json.loads(file.read_text()))
    return results


def play(cell: Cell) -> Result:
    """All rounds of one cell: accuracies per round and node, and of one average of all at the end."""
    circle = _circle(cell.split, cell.seed, cell.recipe, cell.row.same_start)
    started = time.process_time()
    shared = shared_images(circle) if cell.row.shared else None
    played = list(circle.play(cell.row.method, cell.rounds, shared))
    final = None
    if cell.row.final is not None:
        final = circle.one_average(played[-1][1], matched=cell.row.final == "matched")
    return {
        "split": cell.split,
        "row": cell.row.name,
        "seed": cell.seed,
        "images": [len(shard.labels) for shard in circle.shards],
        "steps": [asdict(step) for step, _ in played],
        "one_average": final,
        "cpu_seconds": time.process_time() - started,
    }


@lru_cache(maxsize=1)
def _circle(split: str, seed: int, recipe: Recipe, same_start: bool) -> Circle:
    """The nodes after their first training, which all methods share."""
    return Circle(load_fashion(), split, seed, recipe, same_start=same_start)
