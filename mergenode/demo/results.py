"""What the demo found out, as values and as ``results.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mergenode.demo.scores import Scores

SCHEMA = "mergenode.demo/1"


@dataclass(frozen=True, slots=True)
class VersionScore:
    """One published version; ``added`` is the contribution that made it. ``gain_kept`` in [0, 1], of those inside."""

    version: int
    added: str
    scores: Scores
    mean: float
    gain_kept: float


@dataclass(frozen=True, slots=True)
class Rejection:
    """A push that did not get in, as the ledger tells it."""

    name: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Kill:
    """One SIGKILL: what lay in the folding folder of the frozen node, and how often the contribution is in now."""

    name: str
    files: tuple[str, ...]
    size_bytes: int
    times_folded: int
    recovery: tuple[str, ...]


@dataclass(slots=True)
class Results:
    """Filled while the story goes on; norms in weight units, accuracies and shares in [0, 1], times in seconds."""

    base: Scores = field(default_factory=dict)
    experts: dict[str, Scores] = field(default_factory=dict)
    versions: list[VersionScore] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    drift: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    kills: list[Kill] = field(default_factory=list)
    average: Scores = field(default_factory=dict)
    verified: bool = False
    equals_undisturbed: bool = False
    exit_code: int | None = None
    seconds: float = 0.0

    def write(self, path: Path) -> None:
        """Write ``results.json``. Not atomic: the directory belongs to the demo alone."""
        document = {"schema": SCHEMA, **asdict(self)}
        path.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")
