"""Peers as a scraper sees them."""

from __future__ import annotations

from uuid import UUID

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from mergenode.adapters.observers.peer_metrics import MOST_PEERS, PeerMetrics
from mergenode.wire.sightings import PeerState
from tests.support.peer_snapshot import FAR, ONE, TWO, row, snapshot


def test_a_picture_becomes_values() -> None:
    registry = CollectorRegistry()
    PeerMetrics(registry, snapshot)
    value = registry.get_sample_value
    one, two = {"peer": str(ONE)}, {"peer": str(TWO)}
    assert (value("mergenode_peer_up", one), value("mergenode_peer_up", two)) == (1.0, 0.0)
    states = {state: value("mergenode_peer_state", {**two, "state": state}) for state in ("alive", "suspect", "down")}
    assert states == {"alive": 0.0, "suspect": 1.0, "down": 0.0}
    assert value("mergenode_peer_rtt_seconds", one) == 0.004
    assert value("mergenode_peer_last_seen_seconds", one) == 1.5
    assert value("mergenode_clock_skew_seconds", one) == -0.25
    assert value("mergenode_peers_banned") == 1.0
    assert value("mergenode_rpc_total", {"method": "Peer/Hello", "code": "OK"}) == 2.0
    assert value("mergenode_refusals_total", {"code": "signature"}) == 3.0
    assert value("mergenode_refusals_total", {"code": "stale"}) == 0.0, "series begin at zero"
    assert value("mergenode_peer_up", {"peer": str(FAR)}) is None, "who is only told of has no series"


def test_series_are_bounded_whoever_comes_and_goes() -> None:
    registry, shown = CollectorRegistry(), [snapshot()]
    PeerMetrics(registry, lambda: shown[0])
    for first in range(0, 3000, 100):
        shown[0] = snapshot(*(row(UUID(int=first + number), PeerState.ALIVE) for number in range(64)))
        families = {
            family.name: family for family in text_string_to_metric_families(generate_latest(registry).decode())
        }
        assert len(families["mergenode_peer_up"].samples) <= MOST_PEERS
    assert not families["mergenode_peer_up"].samples, "a label is never given to two nodes"
