"""What became of spans, as metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from mergenode.adapters.spans.queue import DROPPED, EXPORTED, FAILED


class SpanMetrics:
    """``mergenode_trace_spans_total``; all outcomes start at zero."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._spans = Counter(
            "mergenode_trace_spans", "Spans that were handed to the collector, or lost.", ["outcome"], registry=registry
        )
        for outcome in (EXPORTED, FAILED, DROPPED):
            self._spans.labels(outcome)

    def counted(self, outcome: str, spans: int) -> None:
        """So many spans ended like this. From any thread."""
        self._spans.labels(outcome).inc(spans)
