"""The pool seen through the loss of the task plug-in: how a mix of it does, and which contribution would help."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from mergenode.ports.pool import Indexed, Scored, Weights
from mergenode.types import Candidate, Digest


class Objective(Protocol):
    """Joins the pool engine and the plug-in. Never a whole model in the memory of the node.

    Errors of every call but ``index``, ``shorten``, ``remembered`` and ``keep_only``:
        TransientError: the plug-in failed (TASK_FAILED), or files cannot be read or written now; try again later.
        Stopped: the node is stopping.
    """

    def index(self, candidate: Candidate) -> Indexed:
        """See ``ports.pool.PoolEngine.index``."""
        ...

    def shorten(self, factors: Mapping[Digest, float]) -> None:
        """From now on the task vectors of these contents count times their factor, in mixes and in scores."""
        ...

    def gradient_at(self, weights: Weights) -> float:
        """The loss of this mix of the pool; its gradient is what the next ``scores`` are about."""
        ...

    def scores(self, pool: Mapping[Digest, Candidate], always: frozenset[Digest]) -> Scored:
        """Scores at the newest gradient: of ``always``, and of the others all that may be the best of the pool.

        Whoever is left out was shown not to be the best without being read. Groups are those of the selection: ``*``
        alone, or the layer groups without it.
        """
        ...

    def losses_along(self, start: Weights, end: Weights, shares: Sequence[float]) -> Sequence[float]:
        """The loss at (1 - s) start + s end for each share s in [0, 1]; infinite where it is no number."""
        ...

    def remembered(self, content: Digest) -> Sequence[float] | None:
        """What ``losses_alone`` found for this content, also in an earlier process, while the same was asked."""
        ...

    def losses_alone(self, content: Digest) -> Sequence[float]:
        """The loss on every sample by itself (a calibration batch) of the base with this one task vector, as long as
        it counts now. Infinite where it is no number.

        Durability: remembered on disk on return, for this content and what is asked now; a record that is damaged is
        none.
        """
        ...

    def keep_only(self, contents: Collection[Digest]) -> None:
        """Forget what is remembered of all other contents. Idempotent."""
        ...
