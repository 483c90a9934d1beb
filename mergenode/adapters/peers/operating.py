"""What operators ask of the peers of a running node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from mergenode.adapters.peers.membership import Membership
from mergenode.adapters.peers.snapshot import PeersSnapshot, take_snapshot
from mergenode.adapters.peers.topology import Neighbour, Topology
from mergenode.errors import UsageError
from mergenode.wire.membership import MOST_NEIGHBOURS
from mergenode.wire.views import is_address


class PeersOperator:
    """Orders that arrive at the admin service. Thread-safe."""

    def __init__(self, membership: Membership, drain: Callable[[float], int] = lambda grace_s: 0) -> None:
        """``drain``: refuse new transfers, let others finish for so many seconds; returns how many are under way."""
        self._membership, self._drain = membership, drain

    def drain(self, grace_s: float) -> int:
        """Take nothing new and tell others so. Returns the transfers under way. Idempotent."""
        self._membership.drain()
        return self._drain(grace_s)

    def set_topology(self, neighbours: Sequence[Neighbour], expected_generation: int) -> int:
        """Call exactly these from now on, until the process ends. Returns the new generation.

        Raises:
            UsageError: the topology is of another generation, or an address is none, or there are too many.
        """
        wrong = [each.address for each in neighbours if not is_address(each.address)]
        if wrong or len(neighbours) > MOST_NEIGHBOURS:
            what = f"{wrong[0][:80]!r} is no host:port" if wrong else f"{len(neighbours)} neighbours"
            raise UsageError(what, hint=f"Give at most {MOST_NEIGHBOURS} addresses such as node-b:50051.")
        topology = Topology(expected_generation + 1, tuple(neighbours))
        if not self._membership.replace_topology(topology):
            raise UsageError(
                f"the topology is of generation {self._membership.topology.generation}, not {expected_generation}",
                hint="Read the state again: somebody else changed it.",
            )
        return topology.generation

    def ban(self, node_id: UUID, seconds: float | None, reason: str) -> None:
        """Do not listen to a node, for so long or until it is lifted. Durable on return; TransientError: the disk.

        Raises:
            UsageError: it is this node.
        """
        if node_id == self._membership.node_id:
            raise UsageError(f"{node_id} is this node itself", hint="Give the id of another one.")
        self._membership.bans.ban(node_id, seconds, reason)

    def lift(self, node_id: UUID) -> bool:
        """Listen to a node again. False: it was not banned. Durable on return; TransientError: the disk."""
        return self._membership.bans.lift(node_id)

    def state(self) -> PeersSnapshot:
        """What the node knows of itself and of its peers."""
        return take_snapshot(self._membership)
