"""What operators ask of the peers of a running node."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from uuid import UUID

from mergenode.adapters.peers.membership.membership import Membership
from mergenode.adapters.peers.membership.topology import Topology
from mergenode.ports.administration import (
    Neighbour,
    NodeState,
    PeerState,
    Sighting,
    Standing,
    TopologyChangedError,
)
from mergenode.wire import sightings
from mergenode.wire.membership import MOST_NEIGHBOURS
from mergenode.wire.views import is_address


class PeersOperator:
    """Implements ``ports.administration.Administration``."""

    def __init__(self, membership: Membership, drain: Callable[[float], int] = lambda grace: 0) -> None:
        """``drain``: refuse new transfers, let others finish for so many seconds; returns how many are under way."""
        self._membership, self._drain = membership, drain
        self._lock = threading.Lock()

    def drain(self, grace: float) -> int:
        """Take nothing new and tell others so."""
        self._membership.drain()
        return self._drain(grace)

    def set_topology(self, neighbours: Sequence[Neighbour], expected_generation: int) -> int:
        """Call exactly these from now on, and nobody back. Holds until the neighbours in the settings change."""
        wrong = [each.address for each in neighbours if not is_address(each.address)]
        if wrong:
            raise ValueError(f"{wrong[0][:80]!r} is no address such as node-b:50051")
        if len(neighbours) > MOST_NEIGHBOURS:
            raise ValueError(f"{len(neighbours)} neighbours, {MOST_NEIGHBOURS} are allowed")
        with self._lock:
            before = self._membership.topology.generation
            if expected_generation != before:
                raise TopologyChangedError(before)
            topology = Topology(before + 1, tuple(neighbours))
            self._membership.topology_file.write(topology)
            self._membership.replace_topology(topology)
            return topology.generation

    def ban(self, node_id: UUID, seconds: float | None, reason: str) -> None:
        """In force at once; where it cannot be written it holds until the process ends, and TransientError says so."""
        if node_id == self._membership.node_id:
            raise ValueError(f"{node_id} is this node itself")
        self._membership.bans.ban(node_id, seconds, reason)

    def lift_ban(self, node_id: UUID) -> None:
        """Listen to a node again, all its offences forgotten."""
        self._membership.bans.lift(node_id)

    def state(self) -> NodeState:
        """What the node knows now."""
        own = self._membership
        return NodeState(
            node_id=own.node_id,
            incarnation=own.incarnation,
            topology_generation=own.topology.generation,
            neighbours=own.topology.neighbours,
            sightings=tuple(_sighting(each) for each in own.sightings()),
            newest=tuple(
                Standing(each.lineage, each.node_id, each.incarnation, each.seq, each.epoch) for each in own.positions()
            ),
            banned=tuple(own.bans.banned()),
            draining=own.draining,
        )


def _sighting(seen: sightings.Sighting) -> Sighting:
    known = seen.state is not sightings.PeerState.UNKNOWN
    return Sighting(
        seen.node_id, seen.incarnation, PeerState(seen.state) if known else PeerState.DOWN, seen.address, seen.age
    )
