"""Metrics of what only shows over many folds, and by which number a fold is found in the ledger."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Gauge

from mergenode.adapters.observers.bounded_labels import OTHER, FirstLabels
from mergenode.ledger.records import Fact, Folded, Left, Restated
from mergenode.maths.slow_shift import REMEMBERED, SlowShift
from mergenode.types import Digest

WHOLE_MODEL = "*"
SMALL = 0.05
"""A group with less than this part of an equal share of the norm says nothing: a head that is frozen, and rounded."""


class ShiftInstruments:
    """Labels: ``groups``, which the caller shares with its other instruments. In memory: twice 72 norms per group.

    What left the merge says nothing of newcomers: the shifts are then those of the others, as if it had never come.
    """

    def __init__(self, registry: CollectorRegistry, groups: FirstLabels) -> None:
        gauge = partial(Gauge, registry=registry)
        self._groups = groups
        self._shifts: dict[str, SlowShift] = {}
        self._folds: deque[tuple[Digest, list[tuple[str, float]]]] = deque(maxlen=REMEMBERED)
        """Content, and norms by label, of the newest folds without those that left."""
        self._fewer = False
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
        match fact:
            case Folded():
                self._folded(fact)
            case Left():
                self._left(fact)
            case Restated() if self._fewer:
                self._rebuild()

    def _folded(self, fact: Folded) -> None:
        self.generation.set(fact.generation)
        if not fact.weight:
            return
        norms = self._norms(fact)
        self._folds.append((fact.content, norms))
        for label, norm in norms:
            self._show(label, self._shifts.setdefault(label, SlowShift()).add(norm))

    def _norms(self, fact: Folded) -> list[tuple[str, float]]:
        """Of one fold, by label; without what is too small to be judged."""
        found: list[tuple[str, float]] = []
        beyond: list[float] = []
        small = smallest(fact.groups)
        for group in fact.groups:
            name, norm = str(group.get("group", OTHER)), float(group.get("delta_norm") or 0.0)
            label = name if name == WHOLE_MODEL else self._groups.label(name)
            if label == OTHER:
                beyond.append(norm)
            elif norm >= small or label == WHOLE_MODEL:
                found.append((label, norm / abs(fact.weight)))
        if beyond:
            found.append((OTHER, math.hypot(*beyond) / abs(fact.weight)))
        return found

    def _left(self, fact: Left) -> None:
        stay = [(content, norms) for content, norms in self._folds if content != fact.content]
        self._fewer = self._fewer or len(stay) < len(self._folds)
        self._folds = deque(stay, maxlen=REMEMBERED)

    def _rebuild(self) -> None:
        """Once for all that left together."""
        self._fewer = False
        found: dict[str, float | None] = dict.fromkeys(self._shifts)
        self._shifts = {label: SlowShift() for label in found}
        for _, norms in self._folds:
            for label, norm in norms:
                found[label] = self._shifts[label].add(norm)
        for label, shift in found.items():
            self._show(label, shift)

    def _show(self, label: str, shift: float | None) -> None:
        gauge = self.shift if label == WHOLE_MODEL else self.group_shift.labels(label)
        gauge.set(math.nan if shift is None else shift)


def smallest(groups: Iterable[Mapping[str, Any]]) -> float:
    """The norm below which a layer group of a contribution is too small to be judged by itself."""
    norms = [float(group.get("delta_norm") or 0.0) for group in groups if group.get("group") != WHOLE_MODEL]
    return SMALL * math.hypot(*norms) / math.sqrt(len(norms)) if norms else 0.0
