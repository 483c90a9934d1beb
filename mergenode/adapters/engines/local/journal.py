"""The fold's own folder: finished shards, each with a record that makes it count.

A shard counts when its record exists, and its record is written after its data is durable. The folder belongs to one
fold (``plan.json``); a fold of anything else starts afresh. The finished folder, renamed, is a generation.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from blake3 import blake3

from mergenode.adapters.checkpoints.weights import WeightFiles
from mergenode.adapters.durable import remove_tree, replace_file, sync_directory
from mergenode.errors import FatalError, TransientError, TransientReason
from mergenode.types import Digest

PLAN, MANIFEST = "plan.json", "manifest.json"

_RECORD_KEYS = {"bytes", "contributions", "tensors"}
_MANIFEST_KEYS = {"statistics", "content", "totals", "shards"}


def canonical(value: object) -> bytes:
    """One spelling per value: sorted keys, no spaces, floats that read back exactly."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest_of(value: object) -> Digest:
    return Digest(f"blake3:{blake3(canonical(value)).hexdigest()}")


def shard_file(index: int) -> str:
    return f"shard-{index:05d}.safetensors"


def record_file(index: int) -> str:
    return f"shard-{index:05d}.json"


def open_folder(folder: Path, plan: Mapping[str, Any]) -> None:
    """Make ``folder`` the folder of this plan: kept when it already is, emptied otherwise."""
    if _load(folder / PLAN) == json.loads(canonical(plan)):
        for stray in folder.glob(".*.new"):
            stray.unlink()
        return
    remove_tree(folder)
    folder.mkdir(parents=True)
    replace_file(folder / PLAN, canonical(plan))
    sync_directory(folder.parent)


def finished_shard(folder: Path, index: int) -> dict[str, Any] | None:
    """The record of a durable shard, or None when it has to be made (again)."""
    record = _load(folder / record_file(index))
    if record is None or not record.keys() >= _RECORD_KEYS:
        return None
    if record["bytes"] is not None:
        try:
            if os.stat(folder / shard_file(index)).st_size != record["bytes"]:
                return None
        except FileNotFoundError:
            return None
    return record


def write_record(folder: Path, index: int, record: Mapping[str, Any]) -> None:
    replace_file(folder / record_file(index), canonical(record))


def load_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a finished fold. Raises FatalError when it is missing or damaged."""
    manifest = _load(folder / MANIFEST)
    if manifest is None or not manifest.keys() >= _MANIFEST_KEYS:
        raise FatalError(
            f"{folder / MANIFEST}: missing or unreadable",
            hint="The statistics of the running merge are damaged; restore the state directory from a backup.",
        )
    return manifest


def load_record(folder: Path, index: int) -> dict[str, Any]:
    """The record of a shard of a finished generation. Raises FatalError when it is missing or damaged."""
    record = finished_shard(folder, index)
    if record is None:
        raise FatalError(
            f"{folder / shard_file(index)}: missing or damaged",
            hint="The statistics of the running merge are damaged; restore the state directory from a backup.",
        )
    return record


def stamps_of(opened: Iterable[WeightFiles]) -> list[list[str | int]]:
    """What changes when a file of a contribution is written or replaced, be it under its old size and time stamp.

    Part of the plan: shards of a fold that read other bytes count no more, or the fold would mix two contributions.
    Raises TransientError: VANISHED.
    """
    stamps: list[list[str | int]] = []
    for weights, name in [(files, name) for files in opened for name in files.files]:
        place = weights.path / name if weights.path.is_dir() else weights.path
        try:
            status = place.stat()
        except OSError as error:
            raise TransientError(TransientReason.VANISHED, f"{place}: is not there (any more)") from error
        stamps.append([name, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns])
    return stamps


def assert_same(opened: Sequence[WeightFiles], stamps: list[list[str | int]]) -> None:
    """Check that nobody wrote to the files since ``stamps`` were taken: what was read is one state of them.

    Raises TransientError: CHANGED_WHILE_READING, VANISHED.
    """
    for before, after in zip(stamps, stamps_of(opened), strict=True):
        if before != after:
            raise TransientError(
                TransientReason.CHANGED_WHILE_READING,
                f"{opened[0].path.name}: {after[0]} changed while it was read, though its time stamp may look the same",
                hint="It is read again when it has settled; push checkpoints under a new name instead.",
            )


def _load(path: Path) -> dict[str, Any] | None:
    try:
        loaded = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return loaded if isinstance(loaded, dict) else None
