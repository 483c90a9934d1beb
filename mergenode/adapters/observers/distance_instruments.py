"""Metrics of how far the newest version is from the version ten folds ago, and a day ago. All of it from facts."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, Gauge

from mergenode.adapters.observers.bounded_labels import OTHER, FirstLabels
from mergenode.adapters.observers.drift_instruments import restated_norm
from mergenode.adapters.observers.shift_instruments import WHOLE_MODEL
from mergenode.ledger.records import Fact, Folded, Published, Restated, United
from mergenode.maths.chained_distance import Chain, Mark, between

FOLDS_BACK = 10
DAY_SECONDS = 86_400
MOST_VERSIONS = 512
"""Versions that are remembered. With more than that on one day, a day ago is as far back as they reach."""


class Seen(NamedTuple):
    """A version: when, after how many folds, and where its groups are."""

    time: float
    folds: int
    marks: Mapping[str, Mark]


class DistanceInstruments:
    """Labels: ``groups``, shared with others, and ``since``. See ``maths.chained_distance`` for what is exact."""

    def __init__(self, registry: CollectorRegistry, groups: FirstLabels) -> None:
        gauge = partial(Gauge, registry=registry)
        self._groups = groups
        self._chains: dict[str, Chain] = {}
        self._base: dict[str, float] = {}
        self._folds = 0
        self._generation: int | None = None
        self._seen: deque[Seen] = deque(maxlen=MOST_VERSIONS)
        self._distance = gauge(
            "mergenode_distance_ratio",
            "Distance of the newest version from the one ten folds or a day ago, over the norm of the base, NaN when "
            "not known.",
            ["since"],
        )
        self._group_distance = gauge(
            "mergenode_group_distance_ratio",
            "Distance of the newest version from the one ten folds or a day ago, over the norm of the base, NaN when "
            "not known, per layer group.",
            ["group", "since"],
        )
        for since in ("folds", "day"):
            self._distance.labels(since).set(math.nan)

    def fact(self, fact: Fact) -> None:
        """A fact was recorded; the same for those of an earlier process, oldest first."""
        match fact:
            case Folded():
                self._folded(fact)
            case United():
                self._generation = None  # how far it went is not in the fact
            case Restated():
                self._restated(fact)
            case Published() if fact.round is None:
                self._published(fact)

    def _folded(self, fact: Folded) -> None:
        self._folds += 1
        continues, self._generation = self._generation == fact.generation - 1 or fact.count == 1, fact.generation
        told: dict[str, list[Mapping[str, Any]]] = {}
        for group in fact.groups:
            name = str(group.get("group", OTHER))
            told.setdefault(name if name == WHOLE_MODEL else self._groups.label(name), []).append(group)
        for label, groups in told.items():
            chain = self._chains.setdefault(label, Chain())
            if not continues:
                chain.lost()
            self._base[label] = _norm(groups, "base_norm")
            chain.step(_norm(groups, "kept_norm"), _norm(groups, "merge_norm"))

    def _restated(self, fact: Restated) -> None:
        """How far it went is not in the fact, so that the next version is not measured as the merge before."""
        self._generation = None
        for label, chain in self._chains.items():
            chain.lost()
            chain.total = restated_norm(fact) if label == WHOLE_MODEL or fact.count == 0 else math.nan

    def _published(self, fact: Published) -> None:
        whole = self._chains.get(WHOLE_MODEL)
        if whole is None:
            return
        shown = fact.scale.get("update_norm")
        factor = math.nan if shown is None or not whole.total else float(shown) / whole.total
        marks = {label: chain.mark(factor) for label, chain in self._chains.items()}
        now = Seen(_unix(fact.time), self._folds, marks)
        self._seen.append(now)
        for since, earlier in (("folds", self._folds_ago(now)), ("day", self._day_ago(now))):
            for label in self._chains:
                found = math.nan
                if earlier is not None and label in earlier.marks:
                    found = between(earlier.marks[label], marks[label]) / (self._base[label] or math.nan)
                if label == WHOLE_MODEL:
                    self._distance.labels(since).set(found)
                else:
                    self._group_distance.labels(label, since).set(found)

    def _folds_ago(self, now: Seen) -> Seen | None:
        return next((seen for seen in reversed(self._seen) if seen.folds <= now.folds - FOLDS_BACK), None)

    def _day_ago(self, now: Seen) -> Seen | None:
        earlier = next((seen for seen in reversed(self._seen) if seen.time <= now.time - DAY_SECONDS), None)
        return self._seen[0] if earlier is None and len(self._seen) == MOST_VERSIONS else earlier


def _norm(groups: Iterable[Mapping[str, Any]], key: str) -> float:
    """Groups are disjoint sets of weights, so their norms add in squares; NaN where one is not known."""
    return math.hypot(*(math.nan if group.get(key) is None else float(group[key]) for group in groups))


def _unix(time: str) -> float:
    moment = datetime.fromisoformat(time)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
