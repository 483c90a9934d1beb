"""Metrics of transfers: what is counted, and that nothing from outside adds series without bound."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from mergenode.adapters.observers.transfers import MAX_PEERS, TransferMetrics
from mergenode.adapters.peers.weights.transfer_observer import TransferProgress
from mergenode.wire.blocks import Root
from mergenode.wire.encoding import Encoding

ROOT = Root(bytes(32))


def tell_everything(metrics: TransferMetrics, peer: str = "node-b", code: str = "BUSY") -> None:
    metrics.moved("in", peer, Encoding.ORDERED_SPLIT_ZSTD, 20, 100)
    metrics.moved("out", peer, Encoding.RAW, 50, 50)
    metrics.wasted(peer, 9)
    metrics.progress(TransferProgress(ROOT, 25, 100, 1.0, 75.0))
    metrics.active("in", 1)
    metrics.fetched(ROOT, 2.0)
    metrics.postponed(ROOT, "no space")
    metrics.stalled(peer)
    metrics.resumed(ROOT, 1, 2)
    metrics.refetched(peer, 3)
    metrics.mismatched(peer)
    metrics.deduplicated(7)
    metrics.refused(peer, code)
    metrics.shelf(1000, 4)
    metrics.removed(11)
    metrics.damaged(ROOT, "block 1")


def test_what_happened_is_counted() -> None:
    registry = CollectorRegistry()
    tell_everything(TransferMetrics(registry))
    value = registry.get_sample_value
    labels = {"direction": "in", "peer": "node-b", "encoding": "ordered_split_zstd"}
    assert value("mergenode_transfer_bytes_total", labels) == 20
    assert value("mergenode_transfer_weight_bytes_total", {"direction": "in"}) == 100
    assert value("mergenode_transfer_wire_ratio", {"direction": "in"}) == 0.2
    assert value("mergenode_transfer_wire_ratio", {"direction": "out"}) == 1.0
    assert value("mergenode_transfer_active", {"direction": "in"}) == 1
    assert value("mergenode_transfer_progress_ratio") == 0.25
    assert value("mergenode_transfer_seconds_sum") == 2.0
    assert value("mergenode_blocks_refetched_total", {"peer": "node-b"}) == 3
    assert value("mergenode_hash_mismatch_total", {"peer": "node-b"}) == 1
    assert value("mergenode_transfer_refusals_total", {"code": "busy"}) == 1
    assert (value("mergenode_store_bytes"), value("mergenode_store_blocks")) == (1000, 4)
    assert value("mergenode_transfer_wasted_bytes_total", {"peer": "node-b"}) == 9
    assert value("mergenode_dedup_bytes_total") == 7 and value("mergenode_gc_bytes_total") == 11


def test_labels_are_bounded_whatever_callers_are_called() -> None:
    registry = CollectorRegistry()
    metrics = TransferMetrics(registry)
    for number in range(3 * MAX_PEERS):
        tell_everything(metrics, f'evil"{number}\n', f"code {number}")
        tell_everything(metrics, f"ipv4:127.0.0.1:{number}")
    peers = {
        sample.labels["peer"] for family in registry.collect() for sample in family.samples if "peer" in sample.labels
    }
    codes = {
        sample.labels["code"] for family in registry.collect() for sample in family.samples if "code" in sample.labels
    }
    assert len(peers) == MAX_PEERS + 1 and "ipv4:127.0.0.1" in peers and codes == {"other", "busy"}
