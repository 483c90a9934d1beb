"""Facts and signs of life as Prometheus metrics, on a registry that the caller owns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics

import mergenode
from mergenode.adapters.observers.bounded_labels import OTHER, ClosedLabels, FirstLabels
from mergenode.adapters.observers.distance_instruments import DistanceInstruments
from mergenode.adapters.observers.drift_instruments import DriftInstruments, restated_norm
from mergenode.adapters.observers.instruments import (
    ContributionInstruments,
    MergeInstruments,
    WorkInstruments,
)
from mergenode.adapters.observers.quarantine_instruments import QuarantineInstruments
from mergenode.adapters.observers.round_instruments import RoundInstruments
from mergenode.adapters.observers.selection_instruments import SelectionInstruments
from mergenode.adapters.observers.shift_instruments import ShiftInstruments
from mergenode.errors import RejectReason, TransientReason
from mergenode.gates.reasons import GateReason
from mergenode.ledger.records import (
    ContributionFact,
    Duplicate,
    Fact,
    Folded,
    Left,
    Mixed,
    Published,
    Quarantined,
    Rejected,
    Restated,
    Retracted,
    Selected,
    United,
)
from mergenode.ledger.traces import trace_of
from mergenode.ports.clock import Clock
from mergenode.ports.observer import Progress
from mergenode.tracing.context import here
from mergenode.types import Digest, Listing

MAX_GROUPS = 100
"""Layer groups with series of their own, seven each; the rest is summed up."""

WHOLE_MODEL = "*"
_OUTCOMES = ("folded", "rejected", "duplicate", "retracted", "quarantined")
_CONTENT_PREFIX = len("blake3:") + 12


class PrometheusObserver:
    """Keeps the metrics of ``docs/metrics.md``. Nothing that a contribution brings becomes a label value.

    Args:
        registry: owned by the caller, who also serves it.
        registries: names of the configured registries; facts about any other count under ``other``.
        clock: wall time for the timestamps of the loop and of listings.
    """

    def __init__(self, registry: CollectorRegistry, registries: Sequence[str], clock: Clock) -> None:
        # Creation times double the series of counters for a value nobody queries; no other switch.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client leaves it unannotated
        self._clock = clock
        self._registries = ClosedLabels(registries)
        self._reasons = ClosedLabels([*RejectReason, *GateReason])
        self._transient = ClosedLabels(TransientReason)
        self._groups = FirstLabels(MAX_GROUPS)
        self._contribution = ContributionInstruments(registry)
        self._merge = MergeInstruments(registry)
        self._work = WorkInstruments(registry, mergenode.__version__)
        self._rounds = RoundInstruments(registry)
        self._selection = SelectionInstruments(registry)
        self._quarantine = QuarantineInstruments(registry)
        self._drift = DriftInstruments(registry, self._groups)
        self._over_folds = (
            ShiftInstruments(registry, self._groups),
            DistanceInstruments(registry, self._groups),
        )
        ProcessCollector(registry=registry)
        self._base_norm = math.nan
        self._newest: Digest | None = None
        self._told: set[str] = set()
        self._begin_series()

    def restore(self, facts: Iterable[Fact]) -> None:
        """Set the gauges as these facts of an earlier process left them, oldest first.

        The last ``restated``, ``mixed``, ``selected`` and ``scored`` fact are enough, the ``quarantined`` ones of what
        is in quarantine, and of ``folded`` and ``published`` ones, and those by which contributions left, as many as a
        slow shift remembers. Counters and histograms tell of this process only and stay at zero, as Prometheus expects.
        """
        for fact in facts:
            self._quarantine.restore(fact)
            self._drift.restore(fact)
            for instruments in self._over_folds:
                instruments.fact(fact)
            if isinstance(fact, Folded):
                self._set_merge(fact)
            elif isinstance(fact, Left):
                self._set_left(fact)
            elif isinstance(fact, Restated) and not isinstance(fact, United):
                self._set_restated(fact)
            elif isinstance(fact, Published):
                self._set_version(fact)
            elif isinstance(fact, Mixed):
                self._rounds.show(fact)
            elif isinstance(fact, Selected):
                self._selection.show(fact)

    def fact(self, fact: Fact) -> None:
        self._quarantine.fact(fact)
        self._drift.fact(fact)
        for instruments in self._over_folds:
            instruments.fact(fact)
        if isinstance(fact, Left):
            self._set_left(fact)
        match fact:
            case Folded():
                self._settled(fact, "folded")
                self._set_merge(fact)
                exemplar = {"generation": str(fact.generation), "content": fact.content[:_CONTENT_PREFIX]}
                self._work.fold_seconds.observe(fact.seconds, {**exemplar, "trace_id": trace_of(fact)})
                self._work.fold_bytes.labels("read").inc(fact.bytes_read)
                self._work.fold_bytes.labels("written").inc(fact.bytes_written)
            case Rejected():
                self._settled(fact, "rejected")
                self._contribution.rejected.labels(
                    self._registries.label(fact.registry), self._reasons.label(fact.reason)
                ).inc(1, {"trace_id": trace_of(fact)})
            case Duplicate():
                self._settled(fact, "duplicate")
            case Quarantined():
                self._settled(fact, "quarantined")
            case Retracted():
                self._settled(fact, "retracted")
            case United():
                pass  # the gauges of the merge are those of the own one
            case Restated():
                self._set_restated(fact)
            case Mixed():
                self._rounds.mixed(fact)
            case Selected():
                self._selection.selected(fact)
            case Published():
                self._set_version(fact)
                exemplar, place = {"version": str(fact.version), "generation": str(fact.generation)}, here()
                self._work.publish_seconds.observe(
                    fact.seconds, exemplar if place is None else {**exemplar, "trace_id": place.trace_id}
                )

    def progress(self, progress: Progress) -> None:
        if progress.activity == "fold" and progress.bytes_total > 0:
            share = 0.0 if progress.over else min(1.0, progress.bytes_done / progress.bytes_total)
            self._work.fold_progress.set(share)

    def listed(self, registry: str, listing: Listing, pending: int) -> None:
        label = self._registries.label(registry)
        self._contribution.pending.labels(label).set(pending)
        self._contribution.unsettled.labels(label).set(len(listing.unsettled))
        self._contribution.registry_last_success.labels(label).set(self._clock.unix())

    def listing_failed(self, registry: str, message: str) -> None:
        self._contribution.registry_errors.labels(self._registries.label(registry)).inc()

    def retrying(self, subject: str, reason: str, message: str, delay_seconds: float, hint: str = "") -> None:
        self._contribution.retries.labels(self._transient.label(reason)).inc()
        self._work.fold_progress.set(0)

    def heartbeat(self) -> None:
        self._work.loop_last.set(self._clock.unix())

    def sizes(self, *, statistics_bytes: int, published_bytes: int, disk_free_bytes: int) -> None:
        self._work.statistics_bytes.set(statistics_bytes)
        self._work.published_bytes.set(published_bytes)
        self._work.disk_free_bytes.set(disk_free_bytes)

    def message(self, level: str, text: str, **fields: object) -> None:
        """Words are for the log."""

    def _begin_series(self) -> None:
        # A counter that appears with its first event hides that event from rate(): all start at zero.
        for name in self._registries.values:
            self._contribution.pending.labels(name).set(0)
            self._contribution.unsettled.labels(name).set(0)
            self._contribution.registry_last_success.labels(name).set(0)
            self._contribution.registry_errors.labels(name)
            for outcome in _OUTCOMES:
                self._contribution.contributions.labels(name, outcome)
        for reason in TransientReason:
            self._contribution.retries.labels(reason)
        for direction in ("read", "written"):
            self._work.fold_bytes.labels(direction)
        self._merge.contribution_relative_norm.set(math.nan)
        self._merge.share_kept.set(math.nan)
        self._set_scale({})

    def _settled(self, fact: ContributionFact, outcome: str) -> None:
        counter = self._contribution.contributions.labels(self._registries.label(fact.registry), outcome)
        counter.inc(1, {"trace_id": trace_of(fact)})
        self._work.fold_progress.set(0)

    def _set_version(self, fact: Published) -> None:
        self._merge.version.set(fact.version)
        self._work.last_publish.set(_unix(fact.time))
        self._set_scale(fact.scale)

    def _set_scale(self, scale: Mapping[str, Any]) -> None:
        for choice in ("used", "own", "norm_rule"):
            self._merge.scale.labels(choice).set(_number(scale, choice))
        self._merge.update_norm.set(_number(scale, "update_norm"))

    def _set_merge(self, fact: Folded) -> None:
        self._work.last_fold.set(_unix(fact.time))
        self._merge.count.set(fact.count)
        self._merge.contribution_relative_norm.set(fact.relative_norm)
        self._merge.contribution_weight.set(fact.weight)
        self._merge.vetoed_share.set(float(fact.protection.get("share", 0.0)))
        self._newest = fact.content
        whole = next((group for group in fact.groups if group.get("group") == WHOLE_MODEL), {})
        merge_norm, base_norm = _number(whole, "merge_norm"), _number(whole, "base_norm")
        self._base_norm = base_norm
        self._merge.merge_norm.set(merge_norm)
        self._merge.merge_relative_norm.set(merge_norm / base_norm if base_norm else math.nan)
        self._merge.share_kept.set(_number(whole, "share_kept"))
        self._set_groups([group for group in fact.groups if group.get("group") != WHOLE_MODEL])

    def _set_left(self, fact: Left) -> None:
        """What is told of the last fold is told of a contribution that is in the merge."""
        if fact.content != self._newest:
            return
        self._newest = None
        kept = map(self._merge.group_share_kept.labels, self._told)
        for gauge in (self._merge.contribution_relative_norm, self._merge.share_kept, *kept):
            gauge.set(math.nan)

    def _set_restated(self, fact: Restated) -> None:
        """What is known of a merge that something left; per layer group nothing is, until the next fold."""
        norm = restated_norm(fact)
        self._merge.count.set(fact.count)
        self._merge.merge_norm.set(norm)
        self._merge.merge_relative_norm.set(norm / self._base_norm if self._base_norm else math.nan)
        for label in self._told:
            self._merge.group_merge_norm.labels(label).set(0.0 if fact.count == 0 else math.nan)

    def _set_groups(self, groups: Iterable[Mapping[str, Any]]) -> None:
        beyond: list[Mapping[str, Any]] = []
        for group in groups:
            label = self._groups.label(str(group.get("group", OTHER)))
            if label == OTHER:
                beyond.append(group)
                continue
            self._told.add(label)
            self._merge.group_share_kept.labels(label).set(_number(group, "share_kept"))
            self._merge.group_merge_norm.labels(label).set(_number(group, "merge_norm"))
        if beyond:
            self._told.add(OTHER)
            kept, delta = _root_sum_square(beyond, "kept_norm"), _root_sum_square(beyond, "delta_norm")
            self._merge.group_share_kept.labels(OTHER).set(kept / delta if delta else math.nan)
            self._merge.group_merge_norm.labels(OTHER).set(_root_sum_square(beyond, "merge_norm"))


def _number(values: Mapping[str, Any], key: str) -> float:
    """The value, NaN where the method does not define it."""
    value = values.get(key)
    return math.nan if value is None else float(value)


def _root_sum_square(groups: Iterable[Mapping[str, Any]], key: str) -> float:
    """Groups are disjoint sets of weights, so their norms add in squares."""
    return math.hypot(*(_number(group, key) for group in groups))


def _unix(time: str) -> float:
    moment = datetime.fromisoformat(time)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
