"""Folds of whole checkpoints by the engine: reading, hashing, folding and writing durable statistics."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.methods.timing import Figure, compared, in_turn
from mergenode.adapters.checkpoints.base import describe_base
from mergenode.adapters.engines.local.engine import LocalEngine, Resources
from mergenode.adapters.observers.fan_out import FanOut
from mergenode.adapters.store.generations import FolderGenerations
from mergenode.maths.norms import squared_norm
from mergenode.methods import build_method
from mergenode.methods.contract import Folded, Incoming, Method, Statistics
from mergenode.types import Candidate, Head, TensorSpec

THREE_SUMS = "three sums"
REFERENCE = "task_arithmetic"
LIMITED = ("average", "iso", "dare")
SHOWN = ("ties", "fisher", "magmax")


def three_sums() -> Method:
    """No merge method: three float32 sums per weight, the state of ``ties``, and nothing computed from them."""

    def fold(spec: TensorSpec, statistics: Statistics, base: Tensor, incoming: Incoming) -> Folded:
        square = squared_norm(incoming.delta)
        before = statistics or {name: torch.zeros_like(incoming.delta) for name in ("a", "b", "c")}
        sums = {"delta_sq": square, "kept_sq": square, "merge_sq": square}
        return Folded({name: tensor + incoming.delta for name, tensor in before.items()}, sums)

    plain = build_method(REFERENCE, {})
    return replace(plain, name=THREE_SUMS, fold=fold, state_factor=lambda spec: 3.0)


def write_fishers(models: Path) -> None:
    """A Fisher beside every fine-tune, made up, in float32 as ``mergenode sidecar`` writes it; what is there stays."""
    for folder in sorted(models.glob("tuned-*")):
        target = folder / "model.fisher.safetensors"
        if not target.exists():
            draw = torch.Generator().manual_seed(0)
            weights = [file for file in sorted(folder.glob("*.safetensors")) if ".fisher." not in file.name]
            tensors = {name: tensor for file in weights for name, tensor in load_file(file).items()}
            save_file({name: torch.rand(t.shape, generator=draw) for name, t in tensors.items()}, target)


class Node:
    """The engine with a state directory: folds the second fine-tune onto the first, again and again."""

    def __init__(self, folder: Path, models: Path, method: Method) -> None:
        base = models / "base"
        self._models, self._head = models, Head()
        self._generations = FolderGenerations(folder)
        self._generations.prepare()
        self._engine = LocalEngine(
            base_path=base,
            base=describe_base(base),
            method=method,
            folding=self._generations.folding,
            generations=self._generations.statistics,
            resources=Resources(memory_limit=8 << 30, threads=1, device="cpu"),
        )
        self.fold(1)

    def fold(self, number: int) -> None:
        """One fold, committed: statistics are installed and those before them removed."""
        name = f"tuned-{number}"
        candidate = Candidate("benchmark", name, "1", str(self._models / name), weight=1.0)
        result = self._engine.fold(candidate, self._head, FanOut([]))
        generation = self._head.generation + 1
        self._generations.install(generation)
        self._generations.retire(generation)
        self._head = Head(generation, self._head.count + 1, result.totals, result.statistics)


def measure_folds(models: Path, work: Path, repeats: int) -> Sequence[Figure]:
    """CPU of a fold of every method over that of task arithmetic; ``ties`` beside its state alone."""
    shutil.rmtree(work, ignore_errors=True)
    write_fishers(models)
    names = (REFERENCE, *LIMITED, *SHOWN)
    nodes = {name: Node(work / name, models, build_method(name, {})) for name in names}
    nodes[THREE_SUMS] = Node(work / "three", models, three_sums())
    samples = in_turn({name: lambda node=node: node.fold(2) for name, node in nodes.items()}, repeats)
    shutil.rmtree(work)
    figures = [compared(f"fold, {name} / {REFERENCE}", samples, name, REFERENCE, 1.5) for name in LIMITED]
    return figures + [
        compared(f"fold, {name} / {REFERENCE}", samples, name, REFERENCE) for name in (*SHOWN, THREE_SUMS)
    ]
