"""What nodes say of themselves and of each other, as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

OLDEST_SECONDS = 7 * 86_400.0
"""Ages of sightings beyond this are not told apart."""


class PeerState(StrEnum):
    """How a node is. ``unknown``: its heads were here, nobody has seen it."""

    UNKNOWN = "unknown"
    ALIVE = "alive"
    SUSPECT = "suspect"
    DOWN = "down"
    DRAINING = "draining"

    @property
    def up(self) -> bool:
        """Whether it is worth waiting for: a suspect may answer yet, a draining node takes nothing new."""
        return self in (PeerState.ALIVE, PeerState.SUSPECT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """A message of a node itself. ``dialled``: the address that answered us, empty when the node called."""

    node_id: UUID
    incarnation: int
    dialled: str = ""
    advertised: str | None = None
    """Where it asks to be called; empty: nowhere, None: it did not say."""
    capabilities: frozenset[str] = frozenset()
    round_trip: float | None = None
    """Seconds from our call to its answer."""
    skew: float | None = None
    """Seconds that its clock is ahead of ours."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A node that called, where it asks to be called, and when it last spoke."""

    node_id: UUID
    address: str
    at: float


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a node says of another one, or of itself. ``age``: seconds since it was heard of."""

    node_id: UUID
    incarnation: int
    state: PeerState
    address: str
    age: float


@dataclass(frozen=True, slots=True)
class Hint:
    """The freshest sighting of a node by others. ``seen``: on the receiver's clock."""

    seen: float
    incarnation: int
    state: PeerState
    address: str

    @property
    def order(self) -> tuple[float, int, int, str]:
        """Total, so that the freshest of several is the same in any order of arrival."""
        return (self.seen, self.incarnation, list(PeerState).index(self.state), self.address)


class Standing(StrEnum):
    """What became of a contact."""

    NEW = "new"
    SAME = "same"
    RESTARTED = "restarted"
    UNCONFIRMED = "unconfirmed"
    """A caller claims to be a newer start of a node that still answers where we call it: only that call decides."""
    OUTDATED = "outdated"
    """A newer start of this node is known: refused."""
    FULL = "full"
    """There are as many neighbours as are allowed: refused."""

    @property
    def accepted(self) -> bool:
        return self not in (Standing.OUTDATED, Standing.FULL)


@dataclass(frozen=True, slots=True)
class Heard:
    """``rival``: another address that the same start of the node had at the same time; empty: none."""

    standing: Standing
    rival: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPeer:
    """One row of the table. Times are seconds ago, None where nothing is known."""

    node_id: UUID
    incarnation: int
    state: PeerState
    address: str
    direct: bool
    """It spoke to us itself, and was not taken away since."""
    dialled: bool
    """We call it."""
    seen: float | None
    round_trip: float | None = None
    skew: float | None = None
    capabilities: frozenset[str] = frozenset()
