"""Metrics of selections: what was chosen of the pool, and how near that is to the best there is."""

from __future__ import annotations

import math
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from mergenode.adapters.observers.instruments import SECONDS_BUCKETS
from mergenode.ledger.records import Selected


class SelectionInstruments:
    """What the newest selection was like. No labels."""

    def __init__(self, registry: CollectorRegistry) -> None:
        gauge = partial(Gauge, registry=registry)
        self.selections = Counter(
            "mergenode_selections_total", "Selections recorded since the start of the process.", registry=registry
        )
        self.seconds = Histogram(
            "mergenode_selection_seconds", "Time of a selection, all its rounds.", buckets=SECONDS_BUCKETS,
            registry=registry,
        )  # fmt: skip
        self.gap = gauge(
            "mergenode_selection_gap",
            "Duality gap of the newest selection, in units of the loss, NaN before the first.",
        )
        self.loss = gauge("mergenode_selection_loss", "Loss of the mix that was selected last, NaN before the first.")
        self.rounds = gauge("mergenode_selection_rounds", "Rounds of the newest selection.")
        self.chosen = gauge("mergenode_selection_chosen", "Contributions with weight in the newest selection.")
        self.pool = gauge("mergenode_pool_size", "Contents that the newest selection could choose from.")
        self.gap.set(math.nan)
        self.loss.set(math.nan)

    def selected(self, fact: Selected) -> None:
        """One more selection."""
        self.selections.inc()
        self.seconds.observe(fact.seconds)
        self.show(fact)

    def show(self, fact: Selected) -> None:
        """The gauges as this selection left them. Idempotent."""
        self.gap.set(fact.gap)
        self.loss.set(fact.loss)
        self.rounds.set(fact.rounds)
        self.chosen.set(len(fact.target))
        self.pool.set(fact.size)
