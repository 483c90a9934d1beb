"""Metrics of what only shows over many folds, and by which number a fold is found in the ledger."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Gauge

from mergenode.adapters.observers.bounded_labels import OTHER, FirstLabels
from mergenode.ledger.records import Fact, Folded
from mergenode.maths.slow_shift import SlowShift

WHOLE_MODEL = "*"
SMALL = 0.05
"""A group with less than this part of an equal share of the norm says nothing: a head that is frozen, and rounded."""


class ShiftInstruments:
    """Labels: ``groups``, which the caller shares with its other instruments. In memory: 72 norms per group."""

    def __init__(self, registry: CollectorRegistry, groups: FirstLabels) -> None:
        gauge = partial(Gauge, registry=registry)
        self._groups = groups
        self._shifts: dict[str, SlowShift] = {}
        self.generation = gauge(
            "mergenode_newest_fold_generation",
            "Generation of the last fold, by which the ledger names its contribution, 0 before the first.",
        )
        self.shift = gauge(
            "mergenode_newcomer_norm_shift",
            "How far the norms of newcomers have shifted from those of earlier members, in standard deviations.",
        )
        self.group_shift = gauge(
            "mergenode_group_newcomer_norm_shift",
            "How far the norms of newcomers have shifted from those of earlier members, in standard deviations, "
            "per layer group.",
            ["group"],
        )
        self.shift.set(math.nan)

    def fact(self, fact: Fact) -> None:
        """A fact was recorded; the same for those of an earlier process, oldest first."""
        if not isinstance(fact, Folded):
            return
        self.generation.set(fact.generation)
        if not fact.weight:
            return
        beyond: list[float] = []
        small = smallest(fact.groups)
        for group in fact.groups:
            name, norm = str(group.get("group", OTHER)), float(group.get("delta_norm") or 0.0)
            if name == WHOLE_MODEL:
                self.shift.set(self._shifted(WHOLE_MODEL, norm / abs(fact.weight)))
                continue
            label = self._groups.label(name)
            if label == OTHER:
                beyond.append(norm)
            elif norm >= small:
                self.group_shift.labels(label).set(self._shifted(label, norm / abs(fact.weight)))
        if beyond:
            self.group_shift.labels(OTHER).set(self._shifted(OTHER, math.hypot(*beyond) / abs(fact.weight)))

    def _shifted(self, label: str, norm: float) -> float:
        found = self._shifts.setdefault(label, SlowShift()).add(norm)
        return math.nan if found is None else found


def smallest(groups: Iterable[Mapping[str, Any]]) -> float:
    """The norm below which a layer group of a contribution is too small to be judged by itself."""
    norms = [float(group.get("delta_norm") or 0.0) for group in groups if group.get("group") != WHOLE_MODEL]
    return SMALL * math.hypot(*norms) / math.sqrt(len(norms)) if norms else 0.0
