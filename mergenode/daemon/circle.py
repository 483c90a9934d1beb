"""What a round works with: the ports, the rules, and who this node's neighbours are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from mergenode.daemon.contribute import Line
from mergenode.errors import TransientError, TransientReason, UsageError
from mergenode.mixers.rounds import Offered, RoundRules
from mergenode.mixers.topology import Topology
from mergenode.ports.exchange import Exchange
from mergenode.ports.rounds import Models, RoundStore, Trainer
from mergenode.wire.heads import Head

DEGREE, COLLECTED = "degree", "collected"
"""Numbers in a head: how many neighbours its node has; in synchronous mode, the epoch whose models it has taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixPolicy:
    """The settings of a mix. ``clip``, ``guard``, ``rounds``: None for none. See ``settings.mixers``."""

    matching: str = "none"
    clip: float | None = 3.0
    limit: float = 100.0
    robust: str = "none"
    trim: float = 0.2
    guard: float | None = None
    evaluate: bool = True
    rounds: int | None = None
    publish_every: int = 1


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Everybody whom the exchange names, or the neighbours in a topology over ``members``, of which ``own`` is one."""

    topology: Topology | None = None
    members: Sequence[UUID] = ()
    place: int = 0

    @classmethod
    def named(cls, topology: Topology, members: Sequence[UUID], own: UUID) -> Neighbourhood:
        """Raises UsageError: this node is not a member."""
        if own not in members:
            raise UsageError(
                f"this node is {own}, which mixer.members does not name",
                hint="List the ids of all nodes, this one's too; `mergenode peers` shows them.",
            )
        return cls(topology, tuple(members), list(members).index(own))

    def up(self, exchange: Exchange) -> Mapping[UUID, bool]:
        """The neighbours, and whether each is up."""
        known = exchange.neighbours()
        if self.topology is None:
            return dict(known)
        return {self.members[i]: known.get(self.members[i], False) for i in self.topology.neighbours(self.place)}

    def shares(self) -> Mapping[UUID, float] | None:
        """What the topology gives each neighbour; None: by degrees."""
        if self.topology is None:
            return None
        return {self.members[i]: share for i, share in self.topology.shares[self.place].items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Circle:
    """The ports of a round. ``trainer`` None: no plug-in, models are only mixed."""

    line: Line
    exchange: Exchange
    store: RoundStore
    models: Models
    trainer: Trainer | None = None
    rules: RoundRules = field(default_factory=RoundRules)
    policy: MixPolicy = field(default_factory=MixPolicy)
    neighbourhood: Neighbourhood = field(default_factory=Neighbourhood)

    def offers(self, method: str) -> bool:
        """Whether there is a plug-in that has this method."""
        return self.trainer is not None and method in self.trainer.methods()

    def tell(self, level: str, text: str, **fields: object) -> None:
        self.line.observer.message(level, text, **fields)


def offered(head: Head) -> Offered:
    """What a round looks at of a head."""
    degree = head.metrics.get(DEGREE)
    return Offered(head.node_id, head.epoch, None if degree is None or not 0 <= degree < 1 << 20 else int(degree))


def is_task_failure(error: TransientError) -> bool:
    """The plug-in failed, not this node: the round goes on without it."""
    return error.reason is TransientReason.TASK_FAILED
