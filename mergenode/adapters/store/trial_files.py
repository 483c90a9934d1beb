"""What is kept of trials of a merge: scores by statistics, and the gradient at the merge of now. ``state/trial``.

Losing it costs time only. Trials themselves lie here while they are judged; after a kill they are swept away.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from mergenode.adapters.durable import disk_errors, remove_tree, replace_file
from mergenode.types import Digest

TRIAL = "trial"
_MEMORY, _GRADIENT = "remembered.json", "gradient.safetensors"
_SCHEMA = "mergenode.trial/1"
_MOST_MERGES = 16
_MOST_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class TrialFiles:
    """``task``: whose scores these are; those of another plug-in count no more. For one thread."""

    state: Path
    task: str

    @property
    def folder(self) -> Path:
        return self.state / TRIAL

    @property
    def gradient(self) -> Path:
        """Where the gradient of one merge lies; see ``gradient_is_of``."""
        return self.folder / _GRADIENT

    def sweep(self) -> None:
        """Remove trials that a kill left behind. Idempotent."""
        with disk_errors(self.folder):
            if not self.folder.is_dir():
                return
            for path in self.folder.iterdir():
                if path.is_dir() and not path.is_symlink():
                    remove_tree(path)
                elif path.name not in (_MEMORY, _GRADIENT):
                    path.unlink()

    def scores(self, merge: Digest) -> Mapping[str, float] | None:
        """The scores of the merge with these statistics, where they are remembered."""
        found = self._read()["scores"].get(merge)
        return found if isinstance(found, dict) and all(map(_is_number, found.values())) else None

    def remember(self, merge: Digest, scores: Mapping[str, float]) -> None:
        """Durable on return. The oldest beyond sixteen are forgotten."""
        document = self._read()
        kept = {known: value for known, value in document["scores"].items() if known != merge}
        newest = list(kept.items())[1 - _MOST_MERGES :]
        self._write(document | {"scores": {**dict(newest), merge: dict(scores)}})

    def gradient_is_of(self, merge: Digest) -> bool:
        return self._read()["gradient"] == merge and self.gradient.exists()

    def forget_gradient(self) -> None:
        """Before another one is written in its place."""
        self._write(self._read() | {"gradient": None})

    def remember_gradient(self, merge: Digest) -> None:
        """The file is there, and is of this merge. Durable on return."""
        self._write(self._read() | {"gradient": merge})

    def _read(self) -> dict[str, Any]:
        fresh: dict[str, Any] = {"schema": _SCHEMA, "task": self.task, "scores": {}, "gradient": None}
        try:
            with (self.folder / _MEMORY).open("rb") as stream:
                document = json.loads(stream.read(_MOST_BYTES))
        except (OSError, ValueError, RecursionError):
            return fresh
        ours = isinstance(document, dict) and document.keys() == fresh.keys() and isinstance(document["scores"], dict)
        return document if ours and (document["schema"], document["task"]) == (_SCHEMA, self.task) else fresh

    def _write(self, document: Mapping[str, Any]) -> None:
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            replace_file(self.folder / _MEMORY, json.dumps(document, indent=1).encode() + b"\n")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
