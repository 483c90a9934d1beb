"""What the newest fold did to every single tensor, from the records beside the statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.checkpoints.base_cache import cached_base
from mergenode.adapters.engines.local.journal import load_manifest, load_record
from mergenode.adapters.store.generations import FolderGenerations
from mergenode.errors import FatalError, TransientError, TransientReason
from mergenode.ledger.groups import layer_group


@dataclass(frozen=True, slots=True)
class TensorTable:
    """Reads the records of a generation. ``base_cache``: the description of the base, as ``base_of`` left it."""

    generations: FolderGenerations
    base_cache: Path

    def __call__(self, generation: int) -> Iterator[Mapping[str, Any]] | None:
        """One mapping per tensor, in the order of the base's files, a shard in memory at a time.

        Norms are Frobenius, in weight units, and ``None`` where they are not defined. ``observed``: what the method saw
        of the tensor, by its own names. None: the statistics of that generation are not there.

        Raises TransientError (VANISHED) while reading when the generation is removed meanwhile.
        """
        folder = self.generations.folder(generation)
        return self._rows(folder) if folder.is_dir() else None

    def _rows(self, folder: Path) -> Iterator[Mapping[str, Any]]:
        base = cached_base(self.base_cache)
        try:
            for index in range(load_manifest(folder)["shards"]):
                for name, tensor in load_record(folder, index)["tensors"].items():
                    yield _row(name, tensor, base)
        except FatalError as error:
            if folder.is_dir():
                raise
            raise TransientError(
                TransientReason.VANISHED, f"{folder.name} was removed while it was read", hint="Ask again."
            ) from error


def _row(name: str, tensor: Mapping[str, Any], base: BaseModel | None) -> Mapping[str, Any]:
    newest = tensor["folds"][-1] if tensor["folds"] else {"sums": {}, "observed": {}}
    sums, spec = newest["sums"], base.specs.get(name) if base else None
    delta, kept, before = (_root(sums, key) for key in ("delta_sq", "kept_sq", "before_sq"))
    square = base.squared_norms.get(name) if base else None
    return {
        "name": name,
        "group": layer_group(name),
        "shape": list(spec.shape) if spec else None,
        "dtype": spec.dtype.value if spec else None,
        "delta_norm": delta,
        "kept_norm": kept,
        "merge_norm": _root(sums, "merge_sq"),
        "base_norm": None if square is None else sqrt(square),
        "cosine": sums["dot"] / (delta * before) if "dot" in sums and delta and before else None,
        "share_kept": kept / delta if kept is not None and delta else None,
        "vetoed_norm": _root(sums, "vetoed_sq"),
        "observed": dict(newest["observed"]),
    }


def _root(sums: Mapping[str, float], name: str) -> float | None:
    return sqrt(sums[name]) if name in sums else None
