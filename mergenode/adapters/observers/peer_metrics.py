"""Metrics of other nodes, read from one picture of them at every scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mergenode.adapters.observers.bounded_labels import OTHER, FirstLabels
from mergenode.adapters.peers.membership.snapshot import PeersSnapshot
from mergenode.wire.sightings import KnownPeer, PeerState

MOST_PEERS = 64
"""Nodes with series of their own, in the life of the process; later ones have none."""


class PeerMetrics(Collector):
    """Registers itself. The label ``peer`` is a node id: it stays when addresses change, and nobody chooses it."""

    def __init__(self, registry: CollectorRegistry, snapshot: Callable[[], PeersSnapshot]) -> None:
        self._snapshot = snapshot
        self._labels = FirstLabels(MOST_PEERS)
        registry.register(self)

    def describe(self) -> list[Metric]:
        """Nothing in advance, so that registering asks for no picture."""
        return []

    def collect(self) -> Iterator[Metric]:
        snapshot = self._snapshot()
        banned = {ban.node_id for ban in snapshot.bans}
        rows = [(self._labels.label(str(row.peer.node_id)), row.peer) for row in snapshot.peers if row.peer.direct]
        peers = [(label, peer) for label, peer in rows if label != OTHER]
        yield _gauge(
            "mergenode_peer_up",
            "1 while the neighbour answers or may answer yet and is not banned, else 0.",
            [(label, float(peer.state.up and peer.node_id not in banned)) for label, peer in peers],
        )
        yield _states(peers)
        yield _gauge(
            "mergenode_peer_rtt_seconds",
            "From the last call of the neighbour to its answer.",
            [(label, peer.round_trip) for label, peer in peers],
        )
        yield _gauge(
            "mergenode_peer_last_seen_seconds",
            "Time since the neighbour was heard.",
            [(label, peer.seen) for label, peer in peers],
        )
        yield _gauge(
            "mergenode_clock_skew_seconds",
            "How far the clock of the neighbour is ahead of ours.",
            [(label, peer.skew) for label, peer in peers],
        )
        bans = GaugeMetricFamily("mergenode_peers_banned", "Nodes that are not listened to.")
        bans.add_metric([], len(banned))
        yield bans
        yield from _counters(snapshot)


def _gauge(name: str, meaning: str, values: list[tuple[str, float | None]]) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=["peer"])
    for label, value in values:
        if value is not None:
            family.add_metric([label], value)
    return family


def _states(peers: list[tuple[str, KnownPeer]]) -> Metric:
    meaning = "1 for the state that the neighbour is in, 0 for the others."
    family = GaugeMetricFamily("mergenode_peer_state", meaning, labels=["peer", "state"])
    for label, peer in peers:
        for state in PeerState:
            if state is not PeerState.UNKNOWN:
                family.add_metric([label, state], float(peer.state is state))
    return family


def _counters(snapshot: PeersSnapshot) -> Iterator[Metric]:
    calls = CounterMetricFamily(
        "mergenode_rpc", "Calls of other nodes that were answered, by status.", labels=["method", "code"]
    )
    for (method, code), count in sorted(snapshot.rpcs.items()):
        calls.add_metric([method, code], count)
    yield calls
    refusals = CounterMetricFamily(
        "mergenode_refusals", "Heads and calls of other nodes that were refused, by code.", labels=["code"]
    )
    for code, count in sorted(snapshot.refusals.items()):
        refusals.add_metric([code], count)
    yield refusals
