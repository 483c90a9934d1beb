"""``python -m benchmarks.drift.scrape``: a scrape of a node with 1,000 contributions, 500 layers and 16 neighbours.

The real application behind the real server, asked over loopback as Prometheus asks: OpenMetrics, exemplars included.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from uuid import UUID

import httpx
from prometheus_client import CollectorRegistry

from mergenode.adapters.clock import SystemClock
from mergenode.adapters.http.app import create_app
from mergenode.adapters.http.live import LiveStatus
from mergenode.adapters.http.server import HttpServer
from mergenode.adapters.observers.gate_metrics import GateMetrics
from mergenode.adapters.observers.peer_metrics import PeerMetrics
from mergenode.adapters.observers.prometheus import PrometheusObserver
from mergenode.adapters.observers.transfers import TransferMetrics
from mergenode.adapters.peers.access.authorising import RULES
from mergenode.adapters.store.sqlite_ledger import SqliteLedger
from mergenode.wire.sightings import PeerState
from tests.support.observed import folded, group, published
from tests.support.peer_snapshot import row, snapshot

CONTRIBUTIONS, LAYERS, NEIGHBOURS, SCRAPES = 1000, 500, 16, 50
ACCEPT = {"Accept": "application/openmetrics-text;version=1.0.0"}


def main() -> int:
    """Prints the figures. Returns 1 when there are more series, or it takes longer, than the README says."""
    registry, names = CollectorRegistry(), ["inbox", "ingest", "pushes"]
    told = fill(registry, names)
    with tempfile.TemporaryDirectory() as folder, closing(SqliteLedger(Path(folder) / "ledger.sqlite")) as ledger:
        server = HttpServer(create_app("node", ledger, registry, LiveStatus(SystemClock(), names)), "127.0.0.1", 0)
        host, port = server.start()
        try:
            with httpx.Client(base_url=f"http://{host}:{port}", headers=ACCEPT) as client:
                text, seconds = client.get("/metrics").text, []
                used = time.process_time()
                for _ in range(SCRAPES):
                    started = time.perf_counter()
                    client.get("/metrics").raise_for_status()
                    seconds.append(time.perf_counter() - started)
                used = 1000 * (time.process_time() - used) / SCRAPES
        finally:
            server.stop()
    series = sum(not line.startswith("#") for line in text.splitlines())
    median = 1000 * statistics.median(seconds)
    print(f"{series} series, {len(text) / 1024:.0f} KiB")
    print(f"a scrape takes {median:.1f} ms (median of {SCRAPES}), {used:.1f} ms of CPU, who asks included")
    print(f"{CONTRIBUTIONS} folds of {LAYERS} layers are told in {told:.1f} s of CPU")
    return int(series > 1500 or median > 50)


def fill(registry: CollectorRegistry, names: list[str]) -> float:
    """Everything that a node with a gRPC port exports; CPU seconds that the facts took."""
    observer = PrometheusObserver(registry, names, SystemClock())
    peers = [UUID(int=number) for number in range(1, NEIGHBOURS + 1)]
    PeerMetrics(registry, lambda: snapshot(*(row(peer, PeerState.ALIVE) for peer in peers)))
    gate, transfers = GateMetrics(registry), TransferMetrics(registry)
    gate.certificate(lambda: 1.0)
    for method in RULES:
        gate.answered(method, "OK", 0.1)
    for peer in peers:
        transfers.wasted(str(peer), 1)
        transfers.stalled(str(peer))
    layers = tuple(group(name) for name in ("*", *(f"model.layers.{number}" for number in range(LAYERS))))
    started = time.process_time()
    for number in range(1, CONTRIBUTIONS + 1):
        observer.fact(folded(number, groups=layers))
        observer.fact(published(number, generation=number, scale={"update_norm": 1.0}))
    return time.process_time() - started


if __name__ == "__main__":
    sys.exit(main())
