"""What a plug-in computed for the tensors of a checkpoint (side-cars, gradients) as a safetensors file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from mergenode.adapters.checkpoints.side_car_names import side_car_beside, suffix_of
from mergenode.adapters.checkpoints.weights import open_weights
from mergenode.adapters.checkpoints.writer import SafetensorsWriter, header_reserve
from mergenode.adapters.durable import disk_errors, sync_directory
from mergenode.adapters.engines.local.tensors import as_bytes
from mergenode.types import DType, TensorSpec

Made = TypeVar("Made")

SCHEMA = "mergenode.side-car/1"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write fp32 tensors by name. Durability: content synced on return; the name is the caller's to sync."""
    specs = [TensorSpec(name, DType.F32, tuple(tensor.shape)) for name, tensor in tensors.items()]
    described = {"format": "pt", "schema": SCHEMA, **metadata}
    writer = SafetensorsWriter(path, reserve=header_reserve(specs, described), metadata=described)
    try:
        for spec in specs:
            writer.allocate(spec)
            writer.append(spec.name, as_bytes(tensors[spec.name].detach().float().cpu().contiguous()))
        writer.finish()
    finally:
        writer.close()


def side_car_place(checkpoint: Path, kind: str) -> Path:
    """Where the side-car of a checkpoint lies: over an older one of its kind, else under the usual name."""
    if not checkpoint.is_dir():
        return checkpoint.with_name(side_car_beside(checkpoint.name, kind))
    older = sorted(path for path in checkpoint.glob(f"*{suffix_of(kind)}") if not path.name.startswith("."))
    return older[0] if older else checkpoint / f"model{suffix_of(kind)}"


def publish_side_car(checkpoint: Path, kind: str, make: Callable[[Path], Made]) -> tuple[Path, Made]:
    """``publish`` in the place that the side-car of a checkpoint has; the place, and what ``make`` returned."""
    place = side_car_place(checkpoint, kind)
    return place, publish(place, make)


def publish(place: Path, make: Callable[[Path], Made]) -> Made:
    """Let ``make`` write tensors under a private name and give them their own: readers see all of them or none.

    Durability: content and name are synced on return. Idempotence: the same content under the same name.

    Raises:
        TransientError: DISK_FULL, WRITE_FAILED; and whatever ``make`` raises. Nothing new is left then.
    """
    private = place.with_name(f".new-{place.name}")  # hidden, and still a name that the reader takes
    with disk_errors(place.parent):
        try:
            made = make(private)
            with open_weights(private):
                pass  # what nobody could read must not get a name
            os.replace(private, place)
        finally:
            private.unlink(missing_ok=True)
        sync_directory(place.parent)
    return made
