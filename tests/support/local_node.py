"""The local engine between its real neighbours, without ledger and loop: fold, commit, export, look inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from mergenode.adapters.checkpoints.base import BaseModel, describe_base
from mergenode.adapters.engines.local import journal
from mergenode.adapters.engines.local.engine import LocalEngine, Resources
from mergenode.adapters.observers.fan_out import FanOut
from mergenode.adapters.store.generations import FolderGenerations
from mergenode.bootstrap.one_shot import MergeRequest, merge_once
from mergenode.methods import build_method
from mergenode.ports.engine import NOTHING_EARLIER, Earlier, Exported
from mergenode.ports.observer import Observer
from mergenode.types import Candidate, DType, FoldResult, Head

SILENT = FanOut([])
AMPLE = Resources(memory_limit=8 << 30, threads=1, device="cpu")


@dataclass
class LocalNode:
    """Folds in the given order, committing every fold; ``head`` is what the ledger would say."""

    root: Path
    base: Path
    method: str = "opcm"
    options: Mapping[str, object] = field(default_factory=dict)
    resources: Resources = AMPLE
    dtype: DType | None = None
    head: Head = field(default_factory=Head)
    results: list[FoldResult] = field(default_factory=list)
    observer: Observer = SILENT

    def __post_init__(self) -> None:
        self.described: BaseModel = describe_base(self.base)
        self.generations = FolderGenerations(self.root / "state")
        self.generations.prepare()
        self.engine = LocalEngine(
            base_path=self.base,
            base=self.described,
            method=build_method(self.method, self.options),
            folding=self.generations.folding,
            generations=self.generations.statistics,
            resources=self.resources,
            publish_dtype=self.dtype,
        )

    def fold(self, path: Path, weight: float = 1.0) -> FoldResult:
        return self.fold_candidate(Candidate("inbox", path.name, "1", str(path), weight=weight))

    def fold_candidate(self, candidate: Candidate) -> FoldResult:
        result = self.engine.fold(candidate, self.head, self.observer)
        generation = self.head.generation + 1
        self.generations.install(generation)
        self.generations.retire(generation)
        self.head = Head(generation, self.head.count + 1, result.totals, result.statistics)
        self.results.append(result)
        return result

    @property
    def folder(self) -> Path:
        return self.engine.generation_folder(self.head.generation)

    def records(self) -> dict[str, Any]:
        """The record of every tensor's last fold."""
        found: dict[str, Any] = {}
        for path in sorted(self.folder.glob("shard-*.json")):
            found |= journal.load_record(self.folder, int(path.stem.split("-")[1]))["tensors"]
        return found

    def running_sum(self) -> dict[str, Tensor]:
        """The committed accumulator in float64; empty before the first fold."""
        stored: dict[str, Tensor] = {}
        for path in sorted(self.folder.glob("shard-*.safetensors")):
            stored |= load_file(path)
        base = load_model(self.base)
        sums = {}
        for key, value in stored.items():
            statistic, name = key.split(".", 1)
            wide = value.double()
            sums[name] = wide - base[name].double() if statistic == "first" else wide
        return sums

    def export(self, staging: Path, earlier: Earlier = NOTHING_EARLIER) -> Exported:
        staging.mkdir(parents=True)
        return self.engine.export(self.head, str(staging), self.observer, earlier)

    def published(self, staging: Path) -> dict[str, Tensor]:
        self.export(staging)
        return load_model(staging)


def load_model(directory: Path) -> dict[str, Tensor]:
    """All tensors of a directory."""
    found: dict[str, Tensor] = {}
    for path in sorted(directory.glob("*.safetensors")):
        found |= load_file(path)
    return found


def merge(
    base: Path, output: Path, models: Sequence[Path], *, method: str = "opcm", dtype: DType | None = None,
    resources: Resources = AMPLE, **options: object,
) -> dict[str, Any]:  # fmt: skip
    """``mergenode merge`` with weights of 1 and no limit on norms; returns the manifest."""
    request = MergeRequest(
        base=base,
        output=output,
        models=[(path, 1.0) for path in models],
        method=method,
        options=options,
        dtype=dtype,
        resources=resources,
        max_relative_norm=float("inf"),
    )
    return merge_once(request, SILENT)


def same_bits(left: Tensor, right: Tensor) -> bool:
    """Equal dtype, shape and bytes: signed zeros and NaN payloads count."""
    if left.dtype is not right.dtype or left.shape != right.shape:
        return False
    flat = (tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (left, right))
    return bool(torch.equal(*flat))
