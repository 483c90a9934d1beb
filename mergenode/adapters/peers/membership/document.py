"""The document ``/api/v1/peers``, described key by key in ``docs/metrics.md``."""

from __future__ import annotations

from mergenode.adapters.peers.membership.snapshot import BanState, PeerRow, PeersSnapshot
from mergenode.wire.heads import Head

SCHEMA = 1
"""Raised when a key changes its meaning or goes away; new keys come without notice."""

DISTANCE = "distance"
"""The report of a mixer that says how far a node's model is from this one's."""


def peers_document(snapshot: PeersSnapshot) -> dict[str, object]:
    """Everything about other nodes, in types of JSON."""
    topology = snapshot.topology
    return {
        "schema": SCHEMA,
        "node_id": str(snapshot.node_id),
        "incarnation": snapshot.incarnation,
        "lineage": snapshot.lineage,
        "address": snapshot.address or None,
        "draining": snapshot.draining,
        "own": _head(snapshot.own),
        "topology": {
            "generation": topology.generation,
            "neighbours": [
                {"address": each.address, "node_id": None if each.node_id is None else str(each.node_id)}
                for each in topology.neighbours
            ],
        },
        "calls": [{"address": address, "error": error or None} for address, error in sorted(snapshot.links.items())],
        "peers": [_peer(row, snapshot.own) for row in snapshot.peers],
        "bans": [{"node_id": str(ban.node_id), **_ban(ban)} for ban in snapshot.bans],
        "refusals": {code: count for code, count in snapshot.refusals.items() if count},
    }


def _peer(row: PeerRow, own: Head | None) -> dict[str, object]:
    peer = row.peer
    behind = own.epoch - row.head.epoch if own is not None and row.head is not None else None
    return {
        "node_id": str(peer.node_id),
        "address": peer.address or None,
        "state": str(peer.state),
        "neighbour": peer.dialled,
        "direct": peer.direct,
        "incarnation": peer.incarnation,
        "seen_seconds_ago": peer.seen,
        "round_trip_seconds": peer.round_trip,
        "clock_skew_seconds": peer.skew,
        "capabilities": sorted(peer.capabilities),
        "head": _head(row.head),
        "heads_behind": row.heads_behind,
        "epochs_behind": behind,
        "distance": row.reports.get(DISTANCE),
        "reports": dict(row.reports),
        "refusals": dict(row.refusals),
        "banned": None if row.ban is None else _ban(row.ban),
    }


def _head(head: Head | None) -> dict[str, object] | None:
    if head is None:
        return None
    return {"incarnation": head.incarnation, "seq": head.seq, "epoch": head.epoch, "root": head.root.hex()}


def _ban(ban: BanState) -> dict[str, object]:
    return {"until_unix": ban.until, "reason": ban.reason}
