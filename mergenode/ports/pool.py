"""What a selector asks of the pool: how well each checkpoint serves a gradient, exactly or by its sketch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from mergenode.types import Candidate, Digest, Kind

WHOLE = "*"
"""Name of the layer group that is the whole model."""

Scores = Mapping[Digest, Mapping[str, float]]
"""By content, then by layer group: ``a_i = <g, theta_i - base>``, in units of the loss.
The groups are those of the gradient, and ``WHOLE``."""

Weights = Mapping[str, Mapping[Digest, float]]
"""By layer group, then by content: the weights of a combination. The base takes the rest, named or not.
A group that is not there follows ``WHOLE``; without that either it is the base."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """What is known of a candidate since it was read once. Norms are Frobenius norms of its task vector (fp64)."""

    candidate: Candidate
    content: Digest
    """Of the weights alone: what commit markers promise."""
    kind: Kind
    norm: float
    group_norms: Mapping[str, float]
    """By layer group, in model order; the groups that it touches."""


class Estimate(NamedTuple):
    """``a_i`` as the sketch of the task vector has it, without bias, and the standard error of that."""

    value: float
    error: float


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A candidate that has no score. ``reason``: a code of ``RejectReason`` or ``TransientReason``."""

    candidate: Candidate
    reason: str
    message: str
    hint: str = ""
    transient: bool = False
    """Whether it may be readable later as it is."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of the candidates that could be read, and why the others could not."""

    scores: Scores
    unreadable: tuple[Unreadable, ...] = ()


class PoolEngine(Protocol):
    """Reads the checkpoints of a pool against one base. A candidate's own weight and profile play no role here.

    A gradient is a safetensors file with the names and shapes of the base; a tensor that it does not have has gradient
    0, a tied weight has the sum of what its names hold.
    """

    def index(self, candidate: Candidate) -> Indexed:
        """Read the candidate once, unless it was read before as it is now; keep its sketch by its content.

        Durability: the sketch is synced on return. Idempotence: the same files give the same sketch, and a sketch
        that is damaged or of another kind is made again.

        Raises:
            RejectedError: it can never be folded as it is.
            TransientError: try again later.
        """
        ...

    def estimates(self, gradient: Path) -> Mapping[Digest, Estimate]:
        """The whole model's score of every content that is indexed, by the sketches alone.

        Memory: a constant, whatever the number of sketches. Raises as ``scores``.
        """
        ...

    def group_estimates(self, gradient: Path) -> Mapping[Digest, Mapping[str, Estimate]]:
        """The same for every layer group in which the gradient is not 0, with ``WHOLE``."""
        ...

    def scores(self, gradient: Path, candidates: Sequence[Candidate]) -> Scored:
        """Exact scores, each candidate read once; one that was never indexed is indexed before.

        Raises:
            TransientError: TASK_FAILED when the gradient does not fit the base or is not finite; with ``of_node``
                when the base cannot be read.
            FatalError: the base is damaged, or not what it was.
        """
        ...

    def trial(self, weights: Weights, directory: Path) -> None:
        """Write ``base + sum_i w_i (theta_i - base)`` into ``directory``, a checkpoint like any other.

        What the directory held is gone. Not durable: it is for the moment, and half of it cannot be read as a whole.

        Raises:
            RejectedError: GONE when a content with a weight is not where it was indexed, or what makes it unreadable.
            TransientError: try again later.
        """
        ...

    def keep(self, contents: Collection[Digest]) -> None:
        """Forget what is known of all other contents. Idempotent."""
        ...
