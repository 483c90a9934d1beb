"""Metrics of drift: how far versions move, how newcomers stand to the merge, what scores say. All of it from facts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from mergenode.adapters.observers.bounded_labels import OTHER, FirstLabels
from mergenode.adapters.observers.shift_instruments import WHOLE_MODEL, smallest
from mergenode.ledger.records import Fact, Folded, Left, Mixed, Published, Restated, Scored, United
from mergenode.types import Digest

MAX_TASKS = 32
"""Tasks with a series of their own."""


class DriftInstruments:
    """Labels: ``groups``, which the caller shares with its other instruments, and at most ``MAX_TASKS`` tasks.

    Where versions are is known by their norms: with the base as origin, ``update_norm`` is how far out a version lies,
    and the fold between two versions says what entered (``kept_norm``). That gives their distance exactly where what is
    published is a multiple of the running sum, and an estimate where a method bends it.
    """

    def __init__(self, registry: CollectorRegistry, groups: FirstLabels) -> None:
        gauge = partial(Gauge, registry=registry)
        self._groups, self._tasks = groups, FirstLabels(MAX_TASKS)
        self._base_norm = self._merge_norm = math.nan
        self._measured: tuple[int, ...] = ()  # generations: of the last fold, of the newest version
        self._entered: list[float] | None = []  # norms since the newest version; None: they do not tell
        self._newest: Digest | None = None  # content of the last fold, while it is in the merge
        self._told: set[str] = set()  # layer groups that have series
        self._shown = (0.0, 0.0)  # norms of the newest version's update and of its running sum
        self.base = gauge("mergenode_base_norm", "Norm of the merged weights of the base, NaN before the first fold.")
        self.drift = gauge(
            "mergenode_drift_ratio",
            "Distance of the newest version from the base, over the norm of the base, NaN when not known.",
        )
        self.step = gauge(
            "mergenode_version_step_ratio",
            "Distance of the newest version from the one before, over the norm of the base, NaN when not known.",
        )
        self.path = Counter(
            "mergenode_drift_path_total",
            "Distances from version to version added up since the start, in norms of the base.",
            registry=registry,
        )
        self.cosine = gauge(
            "mergenode_newcomer_cosine",
            "Cosine of the last folded task vector with the merge before it, NaN when not defined.",
        )
        self.rank = gauge(
            "mergenode_effective_rank",
            "Effective rank of what the last fold saw, averaged over matrices, NaN when not defined.",
        )
        self.capacity = gauge(
            "mergenode_capacity_taken",
            "Share of the spectrum that the merge has taken, averaged over matrices, NaN when not defined.",
        )
        self.conflict = gauge(
            "mergenode_sign_conflict",
            "Share of the last folded task vector, by magnitude, against the signs of the merge, NaN when not defined.",
        )
        self.group_cosine = gauge(
            "mergenode_group_newcomer_cosine",
            "Cosine of the last folded task vector with the merge before it, NaN when not defined, per layer group.",
            ["group"],
        )
        self.group_size = gauge(
            "mergenode_group_newcomer_relative_norm",
            "Norm of the last folded task vector over the norm of the base, NaN when not known, per layer group.",
            ["group"],
        )
        self.group_norm = gauge(
            "mergenode_group_relative_norm",
            "Norm of the running merge over the norm of the base, per layer group.",
            ["group"],
        )
        self.score = gauge("mergenode_task_score", "Score of the merge when it was last measured, per task.", ["task"])
        self.scored = gauge("mergenode_scored_version", "Newest version that was scored, 0 before the first.")
        for each in (self.base, self.drift, self.step, self.cosine, self.rank, self.capacity, self.conflict):
            each.set(math.nan)

    def fact(self, fact: Fact) -> None:
        """A fact was recorded."""
        match fact:
            case Folded():
                self._folded(fact)
            case Left() if fact.content == self._newest:
                self._newest_left()
            case United():  # how far it went is not in the fact
                self._entered = None
            case Restated():
                self._restated(fact)
            case Published():
                self._published(fact, counts=True)
            case Scored():
                self._scores(fact.scores)
                self.scored.set(fact.version)
            case Mixed():
                self._scores(fact.scores.get("own" if fact.kept_own else "mixed") or {})

    def restore(self, fact: Fact) -> None:
        """As ``fact``, for one of an earlier process, perhaps the last of several. Counters stay at zero."""
        if isinstance(fact, Published):
            if fact.generation not in self._measured:  # a restatement that is not among what is restored
                self._entered = None
            self._published(fact, counts=False)
            return
        self.fact(fact)
        if isinstance(fact, Folded):
            self._entered = None

    def _folded(self, fact: Folded) -> None:
        whole = next((group for group in fact.groups if group.get("group") == WHOLE_MODEL), {})
        self._newest, self._measured = fact.content, (fact.generation,)
        self._base_norm, self._merge_norm = _number(whole, "base_norm"), _number(whole, "merge_norm")
        if self._entered is not None:
            self._entered.append(_number(whole, "kept_norm"))
        self.base.set(self._base_norm)
        self.cosine.set(_number(whole, "cosine"))
        self.rank.set(_number(whole, "effective_rank"))
        self.capacity.set(_number(whole, "capacity_taken"))
        self.conflict.set(_number(whole, "sign_conflict"))
        self._layers([group for group in fact.groups if group.get("group") != WHOLE_MODEL])
        tasks = fact.weighing.get("tasks") or {}
        self._scores({name: numbers.get("after") for name, numbers in tasks.items()})

    def _newest_left(self) -> None:
        """Nothing is known of a newcomer: the last one is out of the merge."""
        self._newest = None
        groups = (each.labels(label) for each in (self.group_cosine, self.group_size) for label in self._told)
        for gauge in (self.cosine, self.rank, self.conflict, *groups):
            gauge.set(math.nan)

    def _restated(self, fact: Restated) -> None:
        """Of a merge that something left its norm is known, of its layer groups nothing, unless nothing is left."""
        self._entered = None
        self._merge_norm = restated_norm(fact)
        self.capacity.set(math.nan)
        for label in self._told:
            self.group_norm.labels(label).set(0.0 if fact.count == 0 else math.nan)

    def _published(self, fact: Published, *, counts: bool) -> None:
        if fact.round is not None:
            return  # the model of a round is no multiple of the running sum
        shown = (_number(fact.scale, "update_norm"), self._merge_norm)
        step = distance(self._shown, shown, self._entered) / (self._base_norm or math.nan)
        self.drift.set(shown[0] / (self._base_norm or math.nan))
        self.step.set(step)
        if counts and math.isfinite(step):
            self.path.inc(step, {"version": str(fact.version), "generation": str(fact.generation)})
        self._shown, self._entered = shown, []
        self._measured = (*self._measured[:1], fact.generation)

    def _layers(self, groups: Sequence[Mapping[str, Any]]) -> None:
        beyond, small = [], smallest(groups)
        for group in groups:
            label = self._groups.label(str(group.get("group", OTHER)))
            if label == OTHER:
                beyond.append(group)
                continue
            self._told.add(label)
            self.group_cosine.labels(label).set(_cosine(group, small))
            self.group_size.labels(label).set(_over_base([group], "delta_norm"))
            self.group_norm.labels(label).set(_over_base([group], "merge_norm"))
        if beyond:
            self._told.add(OTHER)
            known = [value for group in beyond if math.isfinite(value := _cosine(group, small))]
            self.group_cosine.labels(OTHER).set(min(known, default=math.nan))
            self.group_size.labels(OTHER).set(_over_base(beyond, "delta_norm"))
            self.group_norm.labels(OTHER).set(_over_base(beyond, "merge_norm"))

    def _scores(self, scores: Mapping[str, Any]) -> None:
        for task in sorted(scores):
            self.score.labels(self._tasks.label(task)).set(_number(scores, task))


def distance(before: tuple[float, float], after: tuple[float, float], entered: Sequence[float] | None) -> float:
    """Distance of two versions, each (norm of its update a S, norm of its running sum S), NaN when not known.

    ``entered``: norms of what was added to S between them. One fold: exact by the law of cosines, since
    ||S' - S|| is given. Several: the triangle inequality, an upper bound. Nothing before: the distance to the base.
    """
    (shown, total), (shown_now, total_now) = before, after
    if entered is None:
        return math.nan
    if not entered:
        return abs(shown_now - shown)
    if not total or not total_now:
        return abs(shown_now - shown)
    if len(entered) > 1:
        factor, factor_now = shown / total, shown_now / total_now
        return factor_now * math.fsum(entered) + abs(factor_now - factor) * total
    cosine = (total**2 + total_now**2 - entered[0] ** 2) / (2 * total * total_now)
    cosine = max(-1.0, min(1.0, cosine)) if math.isfinite(cosine) else math.nan
    square = (shown - shown_now) ** 2 + 2 * shown * shown_now * (1 - cosine)
    return math.sqrt(max(0.0, square)) if math.isfinite(square) else math.nan


def restated_norm(fact: Restated) -> float:
    """Frobenius norm of the merge after this fact, NaN where it does not tell."""
    if fact.count == 0:
        return 0.0
    return math.sqrt(fact.totals["merge_sq"]) if "merge_sq" in fact.totals else math.nan


def _cosine(group: Mapping[str, Any], small: float) -> float:
    """NaN for a group that the contribution left alone: the direction of roundings says nothing."""
    return math.nan if _number(group, "delta_norm") < small else _number(group, "cosine")


def _over_base(groups: Iterable[Mapping[str, Any]], norm: str) -> float:
    """Groups are disjoint sets of weights, so their norms add in squares."""
    groups = list(groups)
    base = math.hypot(*(_number(group, "base_norm") for group in groups))
    return math.hypot(*(_number(group, norm) for group in groups)) / base if base else math.nan


def _number(values: Mapping[str, Any], key: str) -> float:
    """The value, NaN where it is not defined."""
    value = values.get(key)
    return math.nan if value is None else float(value)
