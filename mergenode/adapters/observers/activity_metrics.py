"""Long work under way as Prometheus metrics, put together when somebody scrapes: work itself pays nothing for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from mergenode.adapters.observers.bounded_labels import OTHER
from mergenode.ports.activity import Activity, ActivityKind

KINDS = (*ActivityKind, OTHER)
"""Every value of the label ``kind``."""


class ActivityMetrics(Collector):
    """How many of every kind are under way; of those that are, share, rate and time left.

    Several of a kind count as one. What is not under way, or not known, has no series but its number.
    """

    def __init__(self, registry: CollectorRegistry, activities: Callable[[], Sequence[Activity]]) -> None:
        """``registry``: owned by the caller, who also serves it; ``activities``: what is under way now."""
        self._activities = activities
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        found: dict[str, list[Activity]] = {kind: [] for kind in KINDS}
        for activity in self._activities():
            found[activity.kind if activity.kind in found else OTHER].append(activity)
        for name, meaning, value in _GAUGES:
            family = GaugeMetricFamily(name, meaning, labels=["kind"])
            for kind, works in found.items():
                known = value(works)
                if known is not None:
                    family.add_metric([kind], known)
            yield family


def _number(works: Sequence[Activity]) -> float:
    return float(len(works))


def _share(works: Sequence[Activity]) -> float | None:
    by_bytes = [work for work in works if work.bytes_total > 0]
    if by_bytes:
        done, total = sum(work.bytes_done for work in by_bytes), sum(work.bytes_total for work in by_bytes)
        return min(1.0, done / total)
    shares = [work.share for work in works if work.share is not None]
    return sum(shares) / len(shares) if shares else None


def _rate(works: Sequence[Activity]) -> float | None:
    rates = [work.rate for work in works if work.rate is not None and work.unit == "bytes"]
    return math.fsum(rates) if rates else None


def _remaining(works: Sequence[Activity]) -> float | None:
    """Of the one that takes longest; not known where one of them is not."""
    left = [work.remaining_seconds for work in works]
    known = [seconds for seconds in left if seconds is not None]
    return max(known) if known and len(known) == len(left) else None


_GAUGES: tuple[tuple[str, str, Callable[[Sequence[Activity]], float | None]], ...] = (
    ("mergenode_activities", "Pieces of long work that are under way.", _number),
    ("mergenode_activity_progress_ratio", "Share of the work under way that is done, absent when not known.", _share),
    ("mergenode_activity_bytes_per_second", "Speed of the work under way, absent when not known.", _rate),
    ("mergenode_activity_remaining_seconds", "Time until the work is done, absent when not known.", _remaining),
)
