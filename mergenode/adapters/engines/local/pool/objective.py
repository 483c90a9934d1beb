"""The pool seen through the loss of a task plug-in: trial models on disk, scores streamed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Protocol, TypeVar

from mergenode.adapters.durable import disk_errors, remove_tree
from mergenode.adapters.engines.local.pool.engine import LocalPool
from mergenode.errors import FatalError, RejectedError, TransientError, TransientReason
from mergenode.ports.pool import WHOLE, Estimate, Indexed, Scored, Unreadable, Weights
from mergenode.selectors.shortlist import reach, unread
from mergenode.types import Candidate, Digest

READ_AT_ONCE = 16
"""Candidates that are scored exactly before it is asked again who still may be the best."""

CONFIDENCE = 0.99
"""With which probability the best of a round are among those that are read. Else one that is nearly as good is taken;
the next round has another gradient."""

T = TypeVar("T")


class Plugin(Protocol):
    """What is asked of ``TaskWorker``."""

    def gradient(self, checkpoint: Path, out: Path, *, batches: int | None = None) -> float: ...

    def losses(self, start: Path, end: Path, gammas: Sequence[float], *, batches: int | None = None) -> list[float]: ...

    def losses_by_batch(self, checkpoint: Path, *, batches: int | None = None) -> list[float]: ...


@dataclass(slots=True, kw_only=True)
class PoolObjective:
    """Implements ``ports.selecting.Objective``.

    ``scratch``: a folder of its own for trial models and the gradient; what an earlier process left is removed.
    ``asked``: identity of what is asked of the pool; losses are remembered for it.
    ``groups``: the layer groups, empty where the model is chosen as a whole. ``best``: how many of the best are asked
    for. ``exact_up_to``: pools of more contents are read as far as their sketches ask for; None: all are read.
    """

    pool: LocalPool
    plugin: Plugin
    scratch: Path
    asked: str
    groups: tuple[str, ...] = ()
    best: int = 1
    exact_up_to: int | None = None
    batches: int | None = None
    _here: Weights | None = field(default=None, init=False)
    _factors: Mapping[Digest, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        with disk_errors(self.scratch):
            remove_tree(self.scratch)
            self.scratch.mkdir(parents=True)

    def index(self, candidate: Candidate) -> Indexed:
        return self.pool.index(candidate)

    def shorten(self, factors: Mapping[Digest, float]) -> None:
        self._factors, self._here = dict(factors), None

    def keep_only(self, contents: Collection[Digest]) -> None:
        self.pool.keep(contents)

    # ---- losses

    def gradient_at(self, weights: Weights) -> float:
        """Durability: none is needed; what a kill leaves is removed by the next start."""
        start = self._trial(weights, "start")
        self._here = weights
        return _asked(lambda: self.plugin.gradient(start, self._gradient, batches=self.batches))

    def losses_along(self, start: Weights, end: Weights, shares: Sequence[float]) -> Sequence[float]:
        """Two trial models, or one where the newest gradient was taken at the start; the plug-in has all between."""
        here, there = self._start(start), self._trial(end, "end")
        return _asked(lambda: self.plugin.losses(here, there, shares, batches=self.batches))

    def remembered(self, content: Digest) -> Sequence[float] | None:
        return self.pool.files.losses(content, self.asked)

    def losses_alone(self, content: Digest) -> Sequence[float]:
        """One trial model, and one more of the base where no loss is a number: is it the content or the plug-in?"""
        found = self._losses_by_batch({WHOLE: {content: 1.0}})
        if not any(map(isfinite, found)) and not any(map(isfinite, self._losses_by_batch({}))):
            raise TransientError(
                TransientReason.TASK_FAILED,
                "the loss of the task plug-in is no finite number for any batch, not even at the base",
                hint="Run `mergenode task check`; a loss has to be a finite number.",
            )
        self.pool.files.save_losses(content, self.asked, found)
        return found

    def _losses_by_batch(self, weights: Weights) -> Sequence[float]:
        place = self._trial(weights, "end")
        return _asked(lambda: self.plugin.losses_by_batch(place, batches=self.batches))

    def _start(self, weights: Weights) -> Path:
        """The trial model of the newest gradient, when it is that of these weights."""
        return self.scratch / "start" if weights == self._here else self._trial(weights, "other")

    def _trial(self, weights: Weights, name: str) -> Path:
        if name == "start":
            self._here = None
        place = self.scratch / name
        try:
            self.pool.trial(self._shortened(weights), place)
        except RejectedError as error:  # it was readable when it was indexed
            raise TransientError(TransientReason.VANISHED, error.message, hint=error.hint) from error
        return place

    def _shortened(self, weights: Weights) -> Weights:
        return {
            group: {content: weight * self._factor(content) for content, weight in row.items()}
            for group, row in weights.items()
        }

    def _factor(self, content: Digest) -> float:
        return self._factors.get(content, 1.0)

    @property
    def _gradient(self) -> Path:
        return self.scratch / "gradient.safetensors"

    # ---- scores

    def scores(self, pool: Mapping[Digest, Candidate], always: frozenset[Digest]) -> Scored:
        if self.exact_up_to is None or len(pool) <= self.exact_up_to:
            return self._named(self.pool.scores(self._gradient, list(pool.values())))
        tables = self._estimated(pool)
        found: dict[Digest, Mapping[str, float]] = {}
        unreadable: list[Unreadable] = []
        wanted = sorted(always & pool.keys()) or _open(tables, found, self.best)[:READ_AT_ONCE]
        while wanted and not unreadable:
            read = self._named(self.pool.scores(self._gradient, [pool[content] for content in wanted]))
            found |= read.scores
            unreadable += read.unreadable
            wanted = _open(tables, found, self.best)[:READ_AT_ONCE]
        return Scored(found, tuple(unreadable))

    def _estimated(self, pool: Mapping[Digest, Candidate]) -> dict[str, dict[Digest, Estimate]]:
        """Group -> content -> estimate, with the largest error that is to be expected instead of the standard error."""
        if not self.groups:
            plain = {WHOLE: dict(self.pool.estimates(self._gradient))}
        else:
            plain = {group: {} for group in self.groups}
            for content, groups in self.pool.group_estimates(self._gradient).items():
                for group in plain:
                    plain[group][content] = groups.get(group, Estimate(0.0, 0.0))
        width = reach(CONFIDENCE, self.best * len(plain))
        return {
            group: {
                content: Estimate(e.value * self._factor(content), width * e.error * self._factor(content))
                for content, e in row.items()
                if content in pool
            }
            for group, row in plain.items()
        }

    def _named(self, scored: Scored) -> Scored:
        """By the groups of the selection; a group that a candidate does not touch has score 0."""
        names = self.groups or (WHOLE,)
        scores = {
            content: {group: groups.get(group, 0.0) * self._factor(content) for group in names}
            for content, groups in scored.scores.items()
        }
        return Scored(scores, scored.unreadable)


def _open(
    tables: Mapping[str, Mapping[Digest, Estimate]], exact: Mapping[Digest, Mapping[str, float]], best: int
) -> list[Digest]:
    """Who may still be among the best of some group, most promising first. Nobody is who makes the loss rise."""
    names: dict[Digest, None] = {}
    for group, row in tables.items():
        known = {content: groups[group] for content, groups in exact.items()}
        found = unread(
            {str(content): estimate.value for content, estimate in row.items()},
            {str(content): estimate.error for content, estimate in row.items()},
            {str(content): value for content, value in known.items()}, best, ceiling=0.0,
        )  # fmt: skip
        names.update((Digest(content), None) for content in found)
    return list(names)


def _asked(call: Callable[[], T]) -> T:
    """What the plug-in answers. It was fit when the node started, so whatever it does now is no reason to end."""
    try:
        return call()
    except FatalError as error:
        raise TransientError(TransientReason.TASK_FAILED, error.message, hint=error.hint) from error
