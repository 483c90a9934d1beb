"""How far other nodes' models are from this one's, for those who look at the peers."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from mergenode.adapters.observers.fan_out import FanOut
from mergenode.ledger.records import Fact, Mixed
from mergenode.ports.observer import Observer

DISTANCE = "distance"


class DistanceObserver(FanOut):
    """Passes everything on. ``report(node_id, name, value)``: called for every model that a round looked at."""

    def __init__(self, observer: Observer, report: Callable[[UUID, str, float], None]) -> None:
        super().__init__([observer])
        self._report = report

    def fact(self, fact: Fact) -> None:
        super().fact(fact)
        if isinstance(fact, Mixed):
            for parent in fact.parents:
                self._report(UUID(parent["node"]), DISTANCE, float(parent["distance"]))
