"""Metrics of rounds: training and mixing with neighbours."""

from __future__ import annotations

import math
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from mergenode.adapters.observers.bounded_labels import FirstLabels
from mergenode.adapters.observers.instruments import SECONDS_BUCKETS
from mergenode.ledger.records import Mixed
from mergenode.ledger.round_state import Phase

MAX_PEERS = 64
SHORT_ID = 8
"""Hexadecimal digits of a node id that make a label."""

NEIGHBOURS = ("used", "missing", "refused", "stale")
TIMED = tuple(phase.value for phase in Phase if phase not in (Phase.COMMIT, Phase.REST))


class RoundInstruments:
    """What the newest round was like. Labels: phases, and at most ``MAX_PEERS`` nodes; the rest is ``other``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        gauge = partial(Gauge, registry=registry)
        self._peers = FirstLabels(MAX_PEERS)
        self.rounds = Counter("mergenode_rounds_total", "Rounds of mixing finished since the start.", registry=registry)
        self.epoch = gauge("mergenode_round_epoch", "Epoch of the newest round, -1 before the first.")
        self.skew = gauge(
            "mergenode_epoch_skew", "By how many epochs the farthest neighbour was ahead in the newest round."
        )
        self.seconds = Histogram(
            "mergenode_round_seconds", "Time of each phase of a round.", ["phase"], buckets=SECONDS_BUCKETS,
            registry=registry,
        )  # fmt: skip
        self.neighbours = gauge(
            "mergenode_round_neighbours", "What became of the neighbours in the newest round.", ["outcome"]
        )
        self.staleness = gauge(
            "mergenode_staleness_epochs", "How many epochs the oldest model lay back that went into the newest round."
        )
        self.weight = gauge("mergenode_merge_weight", "Share of a neighbour's model in the newest round.", ["peer"])
        self.norm = gauge(
            "mergenode_neighbour_distance", "Distance of a neighbour's model to ours in the newest round.", ["peer"]
        )
        self.clipped = Counter(
            "mergenode_update_clipped_total", "Models of neighbours that were cut short.", registry=registry
        )
        self.distance = gauge(
            "mergenode_consensus_distance",
            "Root mean square distance of ours and the neighbours' models to their mean, NaN when alone.",
        )
        self.update = gauge("mergenode_update_size", "How far the newest training went, NaN when not measured.")
        self.kept_own = Counter(
            "mergenode_mixes_dropped_total", "Mixes that were worse than the own model.", registry=registry
        )
        self.failed = Counter(
            "mergenode_trainings_failed_total", "Trainings that failed or diverged.", registry=registry
        )
        self._begin()

    def _begin(self) -> None:
        self.epoch.set(-1)
        for outcome in NEIGHBOURS:
            self.neighbours.labels(outcome).set(0)
        for phase in TIMED:
            self.seconds.labels(phase)
        self.distance.set(math.nan)
        self.update.set(math.nan)

    def mixed(self, fact: Mixed) -> None:
        """One more round."""
        self.rounds.inc()
        self.show(fact)
        for phase in TIMED:
            if phase in fact.seconds:
                self.seconds.labels(phase).observe(fact.seconds[phase])
        self.clipped.inc(sum(1 for parent in fact.parents if parent["clipped"] < 1.0))
        self.kept_own.inc(int(fact.kept_own))
        self.failed.inc(int(bool(fact.training_failed)))

    def show(self, fact: Mixed) -> None:
        """The gauges as this round left them. Idempotent."""
        self.epoch.set(fact.epoch)
        self.skew.set(fact.ahead)
        counts = (len(fact.parents), fact.missing, len(fact.refused), fact.stale)
        for outcome, count in zip(NEIGHBOURS, counts, strict=True):
            self.neighbours.labels(outcome).set(count)
        self.staleness.set(max((fact.epoch - parent["epoch"] for parent in fact.parents), default=0))
        self.weight.clear()
        self.norm.clear()
        for parent in fact.parents:
            peer = self._peers.label(str(parent["node"])[:SHORT_ID])
            self.weight.labels(peer).set(parent["weight"])
            self.norm.labels(peer).set(math.nan if parent["distance"] is None else parent["distance"])
        self.distance.set(math.nan if fact.spread is None else fact.spread)
        self.update.set(math.nan if fact.update is None else fact.update)
