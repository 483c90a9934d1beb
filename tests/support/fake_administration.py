"""An administration in memory that obeys its contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from mergenode.ports.administration import Neighbour, NodeState, Sighting, Standing, TopologyChangedError


@dataclass
class FakeAdministration:
    """Implements ports.administration.Administration. ``trouble``: raised by the next call."""

    node_id: UUID
    generation: int = 1
    transfers: int = 0
    neighbours: tuple[Neighbour, ...] = ()
    sightings: tuple[Sighting, ...] = ()
    newest: tuple[Standing, ...] = ()
    bans: dict[UUID, tuple[float | None, str]] = field(default_factory=dict)
    grace: float | None = None
    trouble: Exception | None = None

    def drain(self, grace: float) -> int:
        self._fail()
        self.grace = grace
        return self.transfers

    def set_topology(self, neighbours: Sequence[Neighbour], expected_generation: int) -> int:
        self._fail()
        if expected_generation != self.generation:
            raise TopologyChangedError(self.generation)
        self.neighbours, self.generation = tuple(neighbours), self.generation + 1
        return self.generation

    def ban(self, node_id: UUID, seconds: float | None, reason: str) -> None:
        self._fail()
        if node_id == self.node_id:
            raise ValueError("a node does not ban itself")
        self.bans[node_id] = (seconds, reason)

    def lift_ban(self, node_id: UUID) -> None:
        self._fail()
        self.bans.pop(node_id, None)

    def state(self) -> NodeState:
        self._fail()
        return NodeState(
            node_id=self.node_id,
            incarnation=3,
            topology_generation=self.generation,
            neighbours=self.neighbours,
            sightings=self.sightings,
            newest=self.newest,
            banned=tuple(self.bans),
            draining=self.grace is not None,
        )

    def _fail(self) -> None:
        trouble, self.trouble = self.trouble, None
        if trouble is not None:
            raise trouble
