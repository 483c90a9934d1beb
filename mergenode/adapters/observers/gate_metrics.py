"""Metrics of the gRPC port: who was not let in, how long answers take, when the certificate ends."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from mergenode.adapters.observers.bounded_labels import ClosedLabels, FirstLabels
from mergenode.adapters.observers.instruments import SECONDS_BUCKETS
from mergenode.adapters.peers.access.authorising import RULES

_MOST_REASONS = 32


class GateMetrics:
    """The two callbacks of ``Authoriser``, and the certificate. Cheap, from any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """``registry``: owned by the caller, who also serves it."""
        counter, self._registry = partial(Counter, registry=registry), registry
        self._reasons = FirstLabels(_MOST_REASONS)
        self._services = ClosedLabels(method.split("/")[1].rpartition(".")[2] for method in RULES)
        self._failures = counter(
            "mergenode_auth_failures_total", "Calls to the gRPC port that were not let in.", ["reason"]
        )
        self._seconds = Histogram(
            "mergenode_rpc_seconds",
            "Time of a call to the gRPC port, to its last byte.",
            ["service"],
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )

    def refused(self, method: str, reason: str) -> None:
        """A call was not let in."""
        self._failures.labels(self._reasons.label(reason)).inc()

    def answered(self, method: str, code: str, seconds: float) -> None:
        """A call is over."""
        service = method.split("/")[1].rpartition(".")[2] if method.count("/") > 1 else method
        self._seconds.labels(self._services.label(service)).observe(seconds)

    def certificate(self, seconds_left: Callable[[], float]) -> None:
        """Ask this at every scrape."""
        gauge = Gauge(
            "mergenode_tls_cert_expiry_seconds",
            "Time until the certificate of the gRPC port ends.",
            registry=self._registry,
        )
        gauge.set_function(seconds_left)
