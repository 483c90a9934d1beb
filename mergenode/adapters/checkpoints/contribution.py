"""A contribution opened against the base: what it says about which tensor, everything checked that headers can tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from mergenode.adapters.checkpoints.adapter import AdaptedModules
from mergenode.adapters.checkpoints.adapter_config import read_adapter_config
from mergenode.adapters.checkpoints.adapter_whole import add_whole_tensors
from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.checkpoints.entries import Additive, Dense, Entry, LowRank
from mergenode.adapters.checkpoints.full import full_entries
from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.checkpoints.model_config import check_model_config
from mergenode.adapters.checkpoints.side_cars import SideCars, open_side_cars
from mergenode.adapters.checkpoints.weights import DEFAULT_LIMITS, WeightFiles, open_weights
from mergenode.types import Kind

__all__ = ["Additive", "Contribution", "Dense", "Entry", "LowRank", "open_contribution"]


@dataclass(frozen=True, slots=True)
class Contribution:
    """Owns the open files; close it, or use it in ``with``."""

    kind: Kind
    entries: Mapping[str, Entry]
    """By base tensor name, in the order of the base. A base tensor that is absent here is untouched."""
    weights: WeightFiles
    canonical_config: bytes
    """Adapter settings that change the meaning of the tensors, for the content digest; empty for full checkpoints."""
    warnings: tuple[str, ...]
    """What a person should know, though it is no reason to refuse."""
    side_cars: SideCars = field(default_factory=SideCars)
    """What lies beside the weights, of the kinds that were asked for."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the descriptors. Idempotent."""
        self.weights.close()
        self.side_cars.close()

    @property
    def files(self) -> tuple[WeightFiles, ...]:
        """Everything that is read of it: weights first, then side-cars by kind."""
        return (self.weights, *(self.side_cars.files[kind] for kind in sorted(self.side_cars.files)))

    def assert_unchanged(self) -> None:
        """As ``WeightFiles.assert_unchanged``, for all files."""
        for files in self.files:
            files.assert_unchanged()


def open_contribution(
    path: Path, base: BaseModel, *, root: Path | None = None, limits: Limits = DEFAULT_LIMITS,
    needs: Iterable[str] = (),
) -> Contribution:  # fmt: skip
    """Open a checkpoint or adapter and hold it against the base.

    Reads headers and small files; weights only where a second name of a tied weight is stored and must be compared.

    Args:
        root: directory that symlinks may not lead out of; see ``open_weights``.
        needs: kinds of side-cars that have to be there; others are not looked at.

    Raises:
        RejectedError: it can never be folded as it is; the message names file and tensor.
        TransientError: VANISHED, READ_FAILED, CHANGED_WHILE_READING.
    """
    weights = open_weights(path, root=root, limits=limits)
    complete = False
    try:
        contribution = _adapter(weights, base, limits) if weights.adapter else _full(weights, base, limits)
        side_cars = open_side_cars(weights, contribution.entries, base, needs, limits)
        contribution = replace(contribution, side_cars=side_cars)
        complete = True
        return contribution
    finally:
        if not complete:
            weights.close()


def _full(weights: WeightFiles, base: BaseModel, limits: Limits) -> Contribution:
    check_model_config(weights, limits)
    entries, warnings = full_entries(weights, base)
    return Contribution(Kind.FULL, entries, weights, b"", (*_ignored(weights), *warnings))


def _adapter(weights: WeightFiles, base: BaseModel, limits: Limits) -> Contribution:
    config = read_adapter_config(weights.path, root=weights.root, limits=limits)
    adapted = AdaptedModules(weights, config, base)
    entries, warnings = adapted.entries()
    warnings += add_whole_tensors(adapted, entries)
    ordered = {name: entries[name] for name in base.specs if name in entries}
    return Contribution(Kind.ADAPTER, ordered, weights, config.canonical, (*_ignored(weights), *warnings))


def _ignored(weights: WeightFiles) -> tuple[str, ...]:
    return tuple(f"{name} is not part of the checkpoint and was not read" for name in weights.ignored)
