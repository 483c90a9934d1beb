"""Trains what the suite consists of: experts on quarters of their tasks, and some whose labels were permuted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.quality.encoder import extract_base
from benchmarks.quality.tasks import Row, load_task, shuffled
from benchmarks.quality.training import train_expert
from benchmarks.selection.suite import OTHERS, RECIPE, SHARDS, SHUFFLED, TARGETS


def folder(work: Path) -> Path:
    """Where the experts lie, one directory each."""
    return work / "experts" / "pool"


def train_pool(work: Path, say: Callable[[str], None]) -> None:
    """The base and all experts of the pools that are missing. Idempotence: those that exist are kept."""
    torch.set_num_threads(1)
    extract_base(work / "base")
    for shard in range(SHARDS):
        for task in (*TARGETS, *OTHERS) if shard < 2 else TARGETS:
            _train(work, task, shard, load_task(task).shard(shard, SHARDS), f"{task}-{shard}", say)
    for task in SHUFFLED:
        _train(work, task, 0, shuffled_labels(load_task(task).shard(0, SHARDS)), f"shuffled-{task}", say)


def shuffled_labels(rows: list[Row]) -> list[Row]:
    """The same texts, their labels permuted among them."""
    labels = shuffled([("", label) for _, label in rows], seed=7)
    return [(text, label) for (text, _), (_, label) in zip(rows, labels, strict=True)]


def _train(work: Path, task: str, shard: int, rows: list[Row], name: str, say: Callable[[str], None]) -> None:
    target = folder(work) / name
    if not target.exists():
        train_expert(work / "base", load_task(task), rows, RECIPE, seed=100 + shard, target=target)
        say(f"trained {name}")
