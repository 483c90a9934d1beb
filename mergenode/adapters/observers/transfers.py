"""Transfers of weights between nodes as Prometheus metrics."""

from __future__ import annotations

from functools import partial

from grpc import StatusCode
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from mergenode.adapters.observers.bounded_labels import ClosedLabels, FirstLabels
from mergenode.adapters.observers.instruments import SECONDS_BUCKETS
from mergenode.adapters.peers.weights.transfer_observer import TransferProgress
from mergenode.wire.blocks import Root
from mergenode.wire.encoding import Encoding
from mergenode.wire.v1 import objects_pb2

MAX_PEERS = 64
DIRECTIONS = ("in", "out")
_CODE = objects_pb2.Refusal.Code
_CODES = (
    *(_CODE.Name(number).removeprefix("CODE_").lower() for number in _CODE.values()),
    *(code.name.lower() for code in StatusCode),
    "ended",
)


class TransferMetrics:
    """Implements ``TransferObserver``. Nodes beyond ``MAX_PEERS`` count under ``other``; roots never become labels."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """``registry``: owned by the caller, who also serves it."""
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        self._peers, self._codes = FirstLabels(MAX_PEERS), ClosedLabels(_CODES)
        self._bytes = counter(
            "mergenode_transfer_bytes_total",
            "Bytes of blocks as they travelled between nodes.",
            ["direction", "peer", "encoding"],
        )
        self._weights = counter(
            "mergenode_transfer_weight_bytes_total", "Bytes of weights that those blocks stand for.", ["direction"]
        )
        self._wasted = counter(
            "mergenode_transfer_wasted_bytes_total", "Bytes that came for blocks that did not become whole.", ["peer"]
        )
        self._ratio = gauge(
            "mergenode_transfer_wire_ratio",
            "Bytes that travelled for a byte of weights, since the start.",
            ["direction"],
        )
        self._active = gauge("mergenode_transfer_active", "Transfers under way.", ["direction"])
        self._progress = gauge(
            "mergenode_transfer_progress_ratio", "Share of the model that last came a block further that is here."
        )
        self._seconds = Histogram(
            "mergenode_transfer_seconds",
            "Time from the first question for a model to its last block on disk.",
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        self._stalled = counter(
            "mergenode_transfer_stalled_total", "Transfers that were left because nothing came any more.", ["peer"]
        )
        self._postponed = counter(
            "mergenode_transfer_postponed_total", "Transfers that were put off: full disk, or nobody to ask."
        )
        self._resumed = counter("mergenode_resume_total", "Transfers that went on from a journal.")
        self._refetched = counter("mergenode_blocks_refetched_total", "Blocks that are asked for again.", ["peer"])
        self._mismatched = counter(
            "mergenode_hash_mismatch_total", "Blocks from a node that were not what their hash says.", ["peer"]
        )
        self._dedup = counter("mergenode_dedup_bytes_total", "Bytes of weights that were here and did not travel.")
        self._refused = counter(
            "mergenode_transfer_refusals_total", "Calls for weights that other nodes did not answer, by code.", ["code"]
        )
        self._store_bytes = gauge("mergenode_store_bytes", "Bytes of weights on the shelf, own and others'.")
        self._store_blocks = gauge("mergenode_store_blocks", "Blocks on the shelf.")
        self._removed = counter("mergenode_gc_bytes_total", "Bytes of weights that were removed from the shelf.")
        self._damaged = counter("mergenode_store_damaged_total", "Models on the shelf that were found damaged.")
        self._moved = {direction: [0, 0] for direction in DIRECTIONS}
        for direction in DIRECTIONS:
            self._weights.labels(direction)
            self._active.labels(direction)
            self._ratio.labels(direction).set(1.0)

    def moved(self, direction: str, peer: str, encoding: Encoding, wire_bytes: int, block_bytes: int) -> None:
        self._bytes.labels(direction, self._peer(peer), encoding.name.lower()).inc(wire_bytes)
        self._weights.labels(direction).inc(block_bytes)
        both = self._moved[direction]
        both[0], both[1] = both[0] + wire_bytes, both[1] + block_bytes
        self._ratio.labels(direction).set(both[0] / both[1] if both[1] else 1.0)

    def wasted(self, peer: str, nbytes: int) -> None:
        self._wasted.labels(self._peer(peer)).inc(nbytes)

    def progress(self, progress: TransferProgress) -> None:
        self._progress.set(progress.done / progress.total if progress.total else 1.0)

    def left(self, root: Root) -> None:
        """Whole ones are told by ``fetched``."""

    def sending(self, root: Root, peer: str, done: int, total: int, *, over: bool = False) -> None:
        """``moved`` counts."""

    def active(self, direction: str, change: int) -> None:
        self._active.labels(direction).inc(change)

    def fetched(self, root: Root, seconds: float) -> None:
        self._seconds.observe(seconds)

    def postponed(self, root: Root, message: str) -> None:
        self._postponed.inc()

    def stalled(self, peer: str) -> None:
        self._stalled.labels(self._peer(peer)).inc()

    def resumed(self, root: Root, done: int, total: int) -> None:
        self._resumed.inc()

    def refetched(self, peer: str, blocks: int) -> None:
        self._refetched.labels(self._peer(peer)).inc(blocks)

    def mismatched(self, peer: str) -> None:
        self._mismatched.labels(self._peer(peer)).inc()

    def deduplicated(self, nbytes: int) -> None:
        self._dedup.inc(nbytes)

    def refused(self, peer: str, code: str) -> None:
        self._refused.labels(self._codes.label(code.lower())).inc()

    def shelf(self, nbytes: int, blocks: int) -> None:
        self._store_bytes.set(nbytes)
        self._store_blocks.set(blocks)

    def removed(self, nbytes: int) -> None:
        self._removed.inc(nbytes)

    def damaged(self, root: Root, fault: str) -> None:
        self._damaged.inc()

    def _peer(self, name: str) -> str:
        """Callers without a certificate are known by their connection; its port is no name."""
        return self._peers.label(name.rpartition(":")[0] if name.startswith(("ipv4:", "ipv6:")) else name)
