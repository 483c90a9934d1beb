"""How a fold and an export are executed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mergenode.ports.observer import Observer
from mergenode.types import Candidate, Digest, FoldResult, Head


class Stopped(Exception):
    """Work was put down between two steps because the node is stopping. Finished shards are kept."""


Evaluator = Callable[[], AbstractContextManager[Callable[[Path], Mapping[str, float]]]]
"""Gives, for the time of a ``with``, a function from a checkpoint directory to scores by name; higher is better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleReport:
    """How much of the merged task vector M a version publishes: ``published = base + used * M``.

    ``own``: what the method itself would choose, ``norm_rule``: what would give the update the mean norm of the
    contributions (None where that is not defined). ``update_norm``: ||published - base||, weight units;
    ``mean_norm``: of the task vectors folded so far. ``evaluated``: scales that were tried and their scores, in that
    order; None when nobody asked for a search, empty when it failed.
    """

    used: float
    own: float
    norm_rule: float | None
    update_norm: float
    mean_norm: float | None
    evaluated: tuple[tuple[float, float], ...] | None = None

    def entry(self) -> dict[str, Any]:
        """The report as manifests and facts carry it."""
        entry: dict[str, Any] = {
            "used": self.used,
            "own": self.own,
            "norm_rule": self.norm_rule,
            "update_norm": self.update_norm,
            "mean_norm": self.mean_norm,
        }
        if self.evaluated is not None:
            entry["evaluated"] = [list(point) for point in self.evaluated]
        return entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """What the versions before can give to an export.

    ``previous``: the newest version in place, whose unchanged bytes may be shared. ``recorded``: the scale entry that
    this very version was published with, when it is made again. ``last_scale``: what is used when a search fails.
    """

    previous: str | None = None
    recorded: Mapping[str, Any] | None = None
    last_scale: float | None = None


NOTHING_EARLIER = Earlier()


@dataclass(frozen=True, slots=True)
class Exported:
    """A version's weight files, durable in the staging directory but not visible yet.

    ``reused``: how many of the tensors were taken over from the version before, not computed.
    """

    tensors: dict[str, Digest]
    bytes_read: int
    bytes_written: int
    scale: ScaleReport
    reused: int = 0


class Engine(Protocol):
    """Streams tensors between files and a merge method. Holds no decision about what is folded or when."""

    def fold(self, candidate: Candidate, head: Head, observer: Observer) -> FoldResult:
        """Fold one contribution into *new* statistics, leaving the committed ones untouched.

        Durability: on return every file of the new generation is synced inside the folding folder, not yet committed.
        Idempotence: killed half way, the next call with the same candidate revision and head goes on after the last
        durable shard; with another candidate or head it starts afresh.

        Raises:
            RejectedError: the contribution can never be folded as it is.
            TransientError: try again later; finished shards are kept.
        """
        ...

    def export(self, head: Head, staging: str, observer: Observer, earlier: Earlier = NOTHING_EARLIER) -> Exported:
        """Write the weight files of the version that ``head`` describes into the directory ``staging``.

        Durability: files are synced on return. Idempotence: same head (and same scores, where the scale is searched
        for, or the same ``earlier.recorded``), same bytes, whatever was shared with the version before.
        """
        ...
