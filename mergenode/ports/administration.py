"""What operators may ask of a running node: stop taking transfers, other neighbours, bans, and what it knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from uuid import UUID


class PeerState(StrEnum):
    """How a node looks from this one. Closed."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    DOWN = "down"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A node to exchange with: ``host:port``, and its id where that is known."""

    address: str
    node_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Sighting:
    """A node that was heard of, ``seen_ago`` seconds ago."""

    node_id: UUID
    incarnation: int
    state: PeerState
    address: str
    seen_ago: float


@dataclass(frozen=True, slots=True)
class Standing:
    """The newest head of a node in a lineage."""

    lineage: str
    node_id: UUID
    incarnation: int
    seq: int
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """What a node knows of itself and of the others. ``topology_generation``: grows with every ``set_topology``."""

    node_id: UUID
    incarnation: int
    topology_generation: int
    neighbours: Sequence[Neighbour] = ()
    sightings: Sequence[Sighting] = ()
    newest: Sequence[Standing] = ()
    banned: Sequence[UUID] = ()
    draining: bool = False


class TopologyChangedError(Exception):
    """Somebody else set the neighbours meanwhile."""

    def __init__(self, generation: int) -> None:
        super().__init__(f"the topology is at generation {generation}")
        self.generation = generation


class Administration(Protocol):
    """Called from threads that may wait for a disk, several at a time."""

    def drain(self, grace: float) -> int:
        """Take no new transfers and give those under way ``grace`` seconds; returns how many there are. Idempotent."""
        ...

    def set_topology(self, neighbours: Sequence[Neighbour], expected_generation: int) -> int:
        """Exchange with exactly these from now on; returns the new generation. Durable on return.

        Raises:
            TopologyChangedError: ``expected_generation`` is not the current one; nothing was changed.
            ValueError: they make no sense, with the reason.
            TransientError: it could not be written; nothing was changed.
        """
        ...

    def ban(self, node_id: UUID, seconds: float | None, reason: str) -> None:
        """Do not listen to a node, for so long or until that is lifted. Durable on return. Idempotent.

        Raises:
            ValueError: it is this node itself.
            TransientError: it could not be written; nothing was changed.
        """
        ...

    def lift_ban(self, node_id: UUID) -> None:
        """Listen to a node again. Durable on return. Idempotent. Raises TransientError as ``ban`` does."""
        ...

    def state(self) -> NodeState:
        """What the node knows now."""
        ...
