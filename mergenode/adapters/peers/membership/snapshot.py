"""One consistent picture of the peers, for the page, the metrics, and whoever administers the node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from mergenode.adapters.peers.membership.bans import Ban, Bans
from mergenode.adapters.peers.membership.membership import Membership
from mergenode.adapters.peers.membership.topology import Topology
from mergenode.wire.heads import Head
from mergenode.wire.sightings import KnownPeer
from mergenode.wire.views import Position


@dataclass(frozen=True, slots=True)
class BanState:
    """``until``: seconds since 1970, None: until it is lifted."""

    node_id: UUID
    reason: str
    until: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRow:
    """One other node, and all that is known of it."""

    peer: KnownPeer
    head: Head | None
    """Its newest one here."""
    heads_behind: int | None
    """Heads that it says it signed and that are not here yet."""
    refusals: Mapping[str, int]
    reports: Mapping[str, float]
    """What the mixer says of it, such as ``distance``."""
    ban: BanState | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PeersSnapshot:
    """``rpcs`` and ``refusals`` count since the process started, the first by method and status code."""

    node_id: UUID
    incarnation: int
    lineage: str
    address: str
    draining: bool
    topology: Topology
    own: Head | None
    peers: tuple[PeerRow, ...]
    bans: tuple[BanState, ...]
    newest: tuple[Position, ...]
    links: Mapping[str, str]
    """Addresses that are called, and why the last attempt failed; empty: it did not."""
    rpcs: Mapping[tuple[str, str], int]
    refusals: Mapping[str, int]


def take_snapshot(membership: Membership) -> PeersSnapshot:
    """Everything that is known now. Waits for nothing but a lock."""
    bans = membership.bans
    banned = {node_id: _ban_state(bans, node_id, ban) for node_id, ban in bans.banned().items()}
    heads = {node_id: each.head for node_id, each in membership.heads.held.items()}
    picture = membership.picture()
    rows = tuple(
        PeerRow(
            peer=row,
            head=heads.get(row.node_id),
            heads_behind=_behind(picture.told.get(row.node_id), heads.get(row.node_id)),
            refusals=membership.tally.of(row.node_id),
            reports=picture.reports.get(row.node_id, {}),
            ban=banned.get(row.node_id),
        )
        for row in picture.table
    )
    return PeersSnapshot(
        node_id=membership.node_id,
        incarnation=membership.incarnation,
        lineage=membership.lineage,
        address=membership.address,
        draining=membership.draining,
        topology=membership.topology,
        own=heads.get(membership.node_id),
        peers=rows,
        bans=tuple(banned.values()),
        newest=membership.positions(),
        links=picture.links,
        rpcs=membership.tally.rpcs(),
        refusals=membership.tally.refusals(),
    )


def _ban_state(bans: Bans, node_id: UUID, ban: Ban) -> BanState:
    return BanState(node_id, ban.reason, bans.unix(ban))


def _behind(told: Position | None, head: Head | None) -> int | None:
    """Heads between the position that a node told and the one that is here."""
    if told is None:
        return None
    if head is None or head.incarnation != told.incarnation:
        return told.seq
    return max(0, told.seq - head.seq)
