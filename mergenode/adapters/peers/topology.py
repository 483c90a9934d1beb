"""Whom this node calls, and what it knows of them at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from mergenode.wire.sightings import KnownPeer
from mergenode.wire.views import Position


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Where to call, and who has to answer there; None: whoever does."""

    address: str
    node_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Topology:
    """Whom this node calls. ``generation`` 0 is that of the settings, where callers are called back too."""

    generation: int
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """What the membership knew at one moment: everybody; what they told of their own heads; addresses that are called
    and why the last attempt failed; what mixers reported."""

    table: tuple[KnownPeer, ...]
    told: Mapping[UUID, Position]
    links: Mapping[str, str]
    reports: Mapping[UUID, Mapping[str, float]]
