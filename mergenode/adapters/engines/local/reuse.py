"""What a version shares with the version before it: bytes that need not be computed again.

After an export the state directory remembers, per tensor, what its published bytes were a function of (the *key*),
their digest and the square of the update, and per file which file on disk it became. A tensor whose key is the same in
the next version has the same bytes. When that is so for all tensors of a file, the next version gets the file itself
under a second name; otherwise their bytes are copied out of it and checked on the way. Losing the memory costs a full
export.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import mergenode
from mergenode.adapters.checkpoints.base import BaseModel
from mergenode.adapters.checkpoints.weights import WeightFiles, open_weights
from mergenode.adapters.durable import replace_file
from mergenode.adapters.engines.local.journal import canonical, digest_of
from mergenode.adapters.engines.local.statistics_files import StatisticsFiles
from mergenode.errors import MergenodeError
from mergenode.methods.contract import Method
from mergenode.types import Digest, TensorSpec

_SCHEMA = "mergenode.exported/1"


class NotAsRemembered(Exception):
    """Bytes of the version before are not those that were exported: nothing of it is reused."""


@dataclass(frozen=True, slots=True)
class ExportedTensor:
    """One tensor of the version before: where it came from, what its bytes are."""

    key: str
    digest: Digest
    square: float


@dataclass(slots=True, kw_only=True)
class Reuse:
    """What of the version before may be taken over. ``folder``: that version; its files are open until ``close``."""

    folder: Path
    tensors: Mapping[str, ExportedTensor] = field(default_factory=dict)
    files: Mapping[str, WeightFiles] = field(default_factory=dict)

    def take(self, target: TensorSpec, key: str, output: str) -> ExportedTensor | None:
        """The remembered tensor when ``target`` with this key has its bytes, and they are there; else None."""
        known, files = self.tensors.get(target.name), self.files.get(output)
        there = files is not None and files.specs.get(target.name) == target
        return known if known is not None and known.key == key and there else None

    def whole_file(self, output: str, targets: list[TensorSpec], keys: Mapping[str, str]) -> bool:
        """Whether a file of the version before holds exactly these tensors with these keys."""
        files = self.files.get(output)
        if files is None or not targets or files.specs.keys() != {target.name for target in targets}:
            return False
        return all(self.take(target, keys[target.name], output) is not None for target in targets)

    def close(self) -> None:
        for files in self.files.values():
            files.close()


def export_keys(
    base: BaseModel, outputs: Mapping[str, TensorSpec], method: Method, scale: float, totals: Mapping[str, float],
    statistics: StatisticsFiles | None, device: torch.device,
) -> dict[str, str]:  # fmt: skip
    """Per published tensor a digest of everything that its bytes are a function of."""
    made_by = {
        "method": method.name,
        "options": {name: repr(value) for name, value in method.options.items()},
        "scale": scale,
        "device": device.type,
        "software": [mergenode.__version__, str(torch.__version__)],
    }
    keys: dict[str, str] = {}
    for name, target in outputs.items():
        primary = base.aliases.get(name, name)
        digests = statistics.digests(primary) if statistics is not None and target.dtype.is_float else {}
        key: dict[str, Any] = {"base": base.digest, "tensor": name, "dtype": target.dtype.value}
        if digests:  # where nothing was folded the bytes are the base's, whatever the rest says
            key |= {**made_by, "statistics": dict(digests)}
            key["totals"] = dict(totals) if method.uses_totals(base.specs[primary]) else None
        keys[name] = digest_of(key)
    return keys


def remember(
    path: Path, staging: Path, outputs: Mapping[str, list[str]], keys: Mapping[str, str],
    digests: Mapping[str, Digest], squares: Mapping[str, float],
) -> None:  # fmt: skip
    """Write what a later export may reuse. ``outputs``: tensors by weight file in ``staging``. Durable on return."""
    tensors = {name: [keys[name], digests[name], squares.get(name, 0.0)] for name in digests}
    files = {output: _stamp(staging / output) for output in outputs}
    replace_file(path, canonical({"schema": _SCHEMA, "tensors": tensors, "files": files}))


def recall(path: Path, folder: Path | None) -> Reuse | None:
    """What the last export left in ``folder``: the files there that still are those that it wrote. None: nothing."""
    if folder is None:
        return None
    opened: dict[str, WeightFiles] = {}
    try:
        known = json.loads(path.read_bytes())
        if known.get("schema") != _SCHEMA:
            return None
        tensors = {
            name: ExportedTensor(key, digest, square) for name, (key, digest, square) in known["tensors"].items()
        }
        stamps = dict(known["files"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    for output, stamp in stamps.items():
        with suppress(OSError, MergenodeError):
            if _stamp(folder / output) == stamp:
                opened[output] = open_weights(folder / output)
    return Reuse(folder=folder, tensors=tensors, files=opened) if opened else None


def link_file(source: Path, target: Path) -> bool:
    """Give a published file a second name; False where the file system cannot, and its bytes have to be copied."""
    try:
        os.link(source, target)
    except OSError:
        return False
    return True


def _stamp(path: Path) -> list[int]:
    """Tells a file from any other, and from itself after somebody wrote to it. Survives renaming and linking."""
    status = path.stat()
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]
