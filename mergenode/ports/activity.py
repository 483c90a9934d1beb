"""Long work as everybody is shown it: what kind, of what, how far, how fast, how long still."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class ActivityKind(StrEnum):
    """Every kind of long work of a node. The values are those of ``Progress.activity`` and the label of metrics."""

    HASH = "hash"
    """The base is read and described."""
    FOLD = "fold"
    PROTECT = "protect"
    """A contribution is held against what is protected, before its fold."""
    EXPORT = "publish"
    RETRACT = "retract"
    """Contributions are subtracted."""
    REPLAY = "replay"
    """Contributions are folded again after a retraction or rollback."""
    COMBINE = "combine"
    """The merges of several nodes are added up."""
    CHECK = "check"
    """What another node offers for that is read and judged."""
    INDEX = "index"
    """A candidate of the pool is read for the first time."""
    SCORING = "scoring"
    """The pool is read against a gradient."""
    SELECTION = "selection"
    """The rounds in which a selector chooses."""
    OBJECTIVE = "objective"
    """The plug-in computes gradient or losses at a trial model."""
    EVALUATION = "evaluation"
    """The plug-in scores a model."""
    TRAINING = "training"
    TRANSFER = "transfer"
    """Weights travel from or to another node, or from a pushing team."""


BESIDE = frozenset({ActivityKind.TRANSFER})
"""What goes on beside the loop of the node; the others are its own work, one inside the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """One piece of long work under way.

    ``bytes_*``: 0 where bytes do not measure it; a total of 0: not known. ``steps_*`` count ``step`` (tensors, batches,
    rounds, contributions). ``taken_over_bytes``: of ``bytes_done``, what was finished before a kill, or did not need
    work. ``rate``: a second, of ``unit`` (``bytes``, or ``step``). None: not known now. ``started``: UTC, ISO 8601.
    """

    kind: str
    subject: str
    peer: str = ""
    bytes_done: int = 0
    bytes_total: int = 0
    taken_over_bytes: int = 0
    steps_done: int = 0
    steps_total: int = 0
    step: str = "tensors"
    started: str = ""
    elapsed_seconds: float = 0.0
    unit: str = "bytes"
    rate: float | None = None
    remaining_seconds: float | None = None
    silent_seconds: float = 0.0
    waits_for: str = ""

    @property
    def share(self) -> float | None:
        """Share that is done, in [0, 1]; None: the total is not known."""
        return share_of(self.document())

    def document(self) -> dict[str, Any]:
        """As ``/api/v1/status`` and ``mergenode status --json`` show it."""
        return asdict(self)


def share_of(document: Mapping[str, Any]) -> float | None:
    """Share of a documented activity that is done, in [0, 1]; None: not known."""
    for what in ("bytes", "steps"):
        done, total = document[f"{what}_done"], document[f"{what}_total"]
        if total > 0:
            return float(min(1.0, max(0.0, done / total)))
    return None
