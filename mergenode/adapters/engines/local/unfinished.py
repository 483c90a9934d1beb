"""What a fold, a subtraction or a replay has finished, read from its folder: while nobody works on it, or from outside.

Reads records only, never weights, and imports no torch: a command asks this.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mergenode.adapters.engines.local import journal
from mergenode.errors import MergenodeError
from mergenode.ports.activity import Activity, ActivityKind
from mergenode.types import DType, TensorSpec

_PARAMETER_BYTES = 4
"""As ``fold.PROGRESS_BYTES``."""
_FOLDING, _REPLAYING, _BASE = "folding", "replaying", "base.json"
_MOST_BYTES = 256 << 20


def unfinished_work(state: Path) -> list[Activity]:
    """Work of the engine that is begun and not committed, as far as it would be kept by a kill now.

    Rates are not known from files. Never raises for what is missing or changes meanwhile: it is passed over.
    """
    sizes = _sizes(state / _BASE)
    found = [_fold(state / _FOLDING, sizes), _replay(state / _REPLAYING, sizes)]
    return [activity for activity in found if activity is not None]


def _fold(folder: Path, sizes: Mapping[str, int]) -> Activity | None:
    plan = _load(folder / journal.PLAN)
    if plan is None:
        return None
    if isinstance(candidate := plan.get("candidate"), list) and len(candidate) > 1:
        kind, subject = ActivityKind.FOLD, str(candidate[1])
    elif isinstance(leaving := plan.get("subtract"), list):
        kind, subject = ActivityKind.RETRACT, f"{len(leaving)} contributions"
    else:
        kind, subject = ActivityKind.COMBINE, "the merges of several nodes"
    done = _finished(folder)
    return Activity(
        kind=kind, subject=subject, started=_since(folder / journal.PLAN),
        steps_done=len(done), steps_total=len(sizes),
        bytes_done=sum(sizes.get(name, 0) for name in done), bytes_total=sum(sizes.values()),
    )  # fmt: skip


def _replay(folder: Path, sizes: Mapping[str, int]) -> Activity | None:
    plan = _load(folder / journal.PLAN)
    if plan is None or not isinstance(folds := plan.get("fold"), list):
        return None
    generations = [int(path.name[1:]) for path in folder.glob("g????????") if path.name[1:].isdecimal()]
    folded, each = min(len(folds), max(generations, default=1) - 1), sum(sizes.values())
    under_way = sum(sizes.get(name, 0) for name in _finished(folder / _FOLDING)) if folded < len(folds) else 0
    return Activity(
        kind=ActivityKind.REPLAY, subject=f"{len(folds)} contributions", started=_since(folder / journal.PLAN),
        steps_done=folded, steps_total=len(folds), step="contributions",
        bytes_done=folded * each + under_way, bytes_total=len(folds) * each,
    )  # fmt: skip


def _finished(folder: Path) -> list[str]:
    """Tensors of the shards that count."""
    names: list[str] = []
    for path in sorted(folder.glob("shard-*.json")):
        try:
            record = journal.finished_shard(folder, int(path.stem.removeprefix("shard-")))
        except (OSError, ValueError, MergenodeError):
            continue
        names += list(record["tensors"]) if record is not None else []
    return names


def _sizes(base: Path) -> dict[str, int]:
    """Bytes that progress counts for every merged tensor, by the description of the base."""
    try:
        described = json.loads(_bounded(base))["base"]
        described = json.loads(described) if isinstance(described, str) else described
        specs = [TensorSpec(name, DType(dtype), tuple(shape)) for name, dtype, shape in described["specs"]]
        aliases = described["aliases"]
        return {
            spec.name: _PARAMETER_BYTES * spec.numel
            for spec in specs
            if spec.dtype.is_float and spec.name not in aliases
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _load(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(_bounded(path))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MOST_BYTES)


def _since(path: Path) -> str:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except OSError:
        return ""
