"""A pool on disk: a base, candidates of all kinds and a gradient, and what their scores are by the slowest way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import fsum
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mergenode.adapters.checkpoints.base import BaseModel, describe_base
from mergenode.adapters.checkpoints.weights import open_weights
from mergenode.adapters.engines.local.pool import parts, trial
from mergenode.adapters.engines.local.pool.engine import LocalPool
from mergenode.adapters.engines.local.pool.sketching import SketchScheme
from mergenode.ledger.groups import layer_group
from mergenode.types import Candidate
from tests.support.models import EMBEDDING, HEAD, Tensors, fine_tune, random_base, write_model


@dataclass
class Pool:
    """A base and what is offered to it, below one folder."""

    root: Path
    base: Tensors = field(default_factory=random_base)
    scheme: SketchScheme = field(default_factory=lambda: SketchScheme(buckets=1 << 12))

    def __post_init__(self) -> None:
        write_model(self.root / "base", self.base)
        self.described: BaseModel = describe_base(self.root / "base")
        self.gradient = self.write_gradient(gradient_of(self.base, 0))

    @property
    def engine(self) -> LocalPool:
        """A new one: nothing is remembered but what is on disk."""
        return LocalPool(
            base=self.described,
            open_base=lambda: open_weights(self.root / "base"),
            folder=self.root / "state" / "pool",
            scheme=self.scheme,
        )

    def add(self, name: str, tensors: Mapping[str, Tensor], *, shards: int = 1) -> Candidate:
        return self.at(write_model(self.root / name, tensors, shards=shards))

    def tuned(self, seed: int, *, shards: int = 1, ratio: float = 0.2) -> Candidate:
        return self.add(f"tuned-{seed}", fine_tune(self.base, seed, ratio=ratio), shards=shards)

    def at(self, path: Path) -> Candidate:
        return Candidate("inbox", path.name, "1", str(path))

    def write_gradient(self, tensors: Mapping[str, Tensor], name: str = "gradient") -> Path:
        path = self.root / f"{name}.safetensors"
        save_file(dict(tensors), path)
        return path


def gradient_of(base: Mapping[str, Tensor], seed: int) -> Tensors:
    """A gradient of all floating-point tensors, tied ones once."""
    draw = torch.Generator().manual_seed(9000 + seed)
    return {
        name: torch.randn(tensor.shape, generator=draw)
        for name, tensor in base.items()
        if tensor.is_floating_point() and name != HEAD
    }


def literal_scores(base: Tensors, tuned: Tensors, gradient: Tensors) -> dict[str, float]:
    """``<g, theta> - <g, base>`` by layer group: every product in float64, every sum correctly rounded."""
    found: dict[str, list[float]] = {"*": []}
    for name, values in gradient.items():
        own, other = (side[name].double().flatten().tolist() for side in (base, tuned))
        for g, before, after in zip(values.double().flatten().tolist(), own, other, strict=True):
            terms = (g * after, -g * before)
            for group in ("*", layer_group(name)):
                found.setdefault(group, []).extend(terms)
    return {group: fsum(terms) for group, terms in found.items()}


def literal_norm(base: Tensors, tuned: Tensors) -> float:
    """||theta - base|| over the floating-point tensors, tied ones once."""
    squares = [
        (after - before) ** 2
        for name, tensor in base.items()
        if tensor.is_floating_point() and not (name == HEAD and torch.equal(tensor, base[EMBEDDING]))
        for before, after in zip(
            tensor.double().flatten().tolist(), tuned[name].double().flatten().tolist(), strict=True
        )
    ]
    return fsum(squares) ** 0.5


def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that tensors have several parts, and stretches several tensors."""
    monkeypatch.setattr(parts, "PART_ELEMENTS", 64)
    monkeypatch.setattr(parts, "STRETCH_ELEMENTS", 160)
    monkeypatch.setattr(trial, "PART_ELEMENTS", 40)
