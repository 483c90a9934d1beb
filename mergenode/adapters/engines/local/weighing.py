"""``weigh: fit``: merges at several weights of the newcomer, scored by the task plug-in; the fit has the word."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mergenode.adapters.durable import disk_errors, link_directory, remove_tree, rename_directory
from mergenode.adapters.engines.local.engine import LocalEngine
from mergenode.adapters.engines.local.scale_choice import NoScore, finite_scores, opened
from mergenode.adapters.engines.local.version import copy_side_files
from mergenode.errors import RejectedError, RejectReason, TransientError, TransientReason
from mergenode.maths.two_model_fit import (
    Curve,
    Scores,
    WeightRule,
    best_weight,
    fit_curve,
    grid,
    pareto,
    settle,
    thinned,
    trial_weights,
)
from mergenode.methods.rescale import asked_scale, is_chosen_later
from mergenode.methods.scaling import EVALUATE
from mergenode.ports.engine import Earlier, Evaluator
from mergenode.ports.observer import Observer
from mergenode.ports.weighing import Weighed
from mergenode.types import Candidate, Head

WEIGHING = "weighing"
"""Scratch beside the folding folder: a second name for the statistics, those of one trial, its checkpoint."""

MOST_TASKS, MOST_POINTS = 32, 12
"""What is recorded at most, so that a fact stays small whatever a plug-in returns."""


@dataclass(frozen=True, slots=True)
class LocalWeigher:
    """Implements ports.weighing.Weigher. Every trial is what would be published: folded, exported, read by the plug-in.

    Costs a fold and an export for each weight. The first contribution keeps its weight: there is nothing to weigh it
    against, and it comes back bit for bit.
    """

    engine: LocalEngine
    evaluator: Evaluator | None
    rule: WeightRule

    @property
    def _scratch(self) -> Path:
        return self.engine.folding.with_name(WEIGHING)

    def clear(self) -> None:
        """Remove what a kill has left. Idempotent."""
        with disk_errors(self._scratch):
            remove_tree(self._scratch)

    def weigh(self, candidate: Candidate, head: Head, earlier: Earlier, observer: Observer) -> Weighed:
        if not head.count:
            return Weighed(candidate.weight)
        self.clear()
        try:
            if self.evaluator is None:
                raise NoScore("there is no task plug-in")
            with opened(self.evaluator) as score_of:
                trials = _Trials(self.engine, self._scratch, candidate, head, earlier, observer, score_of)
                return self._chosen(candidate, trials)
        except NoScore as why:
            return self._without_scores(candidate, why, observer)
        finally:
            self.clear()

    def _without_scores(self, candidate: Candidate, why: NoScore, observer: Observer) -> Weighed:
        hint = "`mergenode task check` tells what the plug-in can do."
        if self.rule.max_fall is not None:
            # A bound is a promise; nothing enters unseen.
            message = f"{candidate.name}: cannot be weighed, and weigh.max_fall is set: {why}"
            raise TransientError(TransientReason.TASK_FAILED, message, hint=hint) from why
        text = f"{candidate.name}: weigh: fit found no weight, {candidate.weight:g} is used: {why}"
        observer.message("warning", text, hint=hint)
        return Weighed(candidate.weight, {"name": "fit", "given": candidate.weight, "failed": str(why)[:300]})

    def _chosen(self, candidate: Candidate, trials: _Trials) -> Weighed:
        before = trials.score(0.0)
        self._objective(before)
        measured = {weight: trials.score(weight) for weight in trial_weights(self.rule, candidate.weight)}
        curves = _curves(before, measured)
        wanted = best_weight(curves, before, self.rule, candidate.weight)
        if wanted is not None and wanted not in measured:
            measured[wanted] = trials.score(wanted)
        weight = settle(measured, before, wanted, curves, self.rule)
        if weight is None:
            raise self._refused(candidate, before, measured)
        return Weighed(weight, self._record(candidate, weight, before, measured, curves))

    def _objective(self, scores: Scores) -> float:
        try:
            return self.rule.objective(scores)
        except KeyError as missing:
            raise NoScore(f"weigh.objective names {missing}, the scores are {', '.join(sorted(scores))}") from missing

    def _refused(self, candidate: Candidate, before: Scores, measured: Mapping[float, Scores]) -> RejectedError:
        least = min(measured)
        falls = {task: before[task] - measured[least][task] for task in before}
        task = max(sorted(falls), key=lambda name: falls[name])
        return RejectedError(
            RejectReason.LOWERS_A_SCORE,
            f"{candidate.name}: at every weight that was tried a score falls by more than {self.rule.max_fall:g}; at "
            f"{least:g} {task!r} falls from {before[task]:.4g} to {measured[least][task]:.4g}",
            hint="It harms what is in the merge. `mergenode ingest PATH` tries it again, against the merge of then.",
        )

    def _record(
        self, candidate: Candidate, weight: float, before: Scores, measured: Mapping[float, Scores],
        curves: Mapping[str, Curve],
    ) -> dict[str, Any]:  # fmt: skip
        tasks = sorted(before)[:MOST_TASKS]
        places = grid(self.rule)
        front = thinned(pareto([[curves[task].at(place) for task in tasks] for place in places]), MOST_POINTS)
        trials = sorted({0.0: before, **measured}.items())
        return {
            "name": "fit",
            "given": candidate.weight,
            "tasks": {
                task: {
                    "before": before[task], "after": measured[weight][task], "link": curves[task].link,
                    "fit": [curves[task].constant, curves[task].linear, curves[task].quadratic],
                    "residual": curves[task].residual,
                }
                for task in tasks
            },
            "trials": [[place, self.rule.objective(scores)] for place, scores in trials],
            "pareto": {
                "tasks": tasks,
                "points": [[places[at], *(curves[task].at(places[at]) for task in tasks)] for at in front],
            },
        }  # fmt: skip


def _curves(before: Scores, measured: Mapping[float, Scores]) -> dict[str, Curve]:
    points = {0.0: before, **measured}
    if any(scores.keys() != before.keys() for scores in measured.values()):
        raise NoScore("the names of the scores differ from one checkpoint to the next")
    return {task: fit_curve([(weight, scores[task]) for weight, scores in points.items()]) for task in sorted(before)}


@dataclass(slots=True)
class _Trials:
    """Scores of the merge with the newcomer at one weight or another; 0: without it."""

    engine: LocalEngine
    scratch: Path
    candidate: Candidate
    head: Head
    earlier: Earlier
    observer: Observer
    score_of: Callable[[Path], Mapping[str, float]]

    def score(self, weight: float) -> Scores:
        """Raises NoScore when the plug-in does not say; whatever a fold or an export raises."""
        checkpoint = self.scratch / "checkpoint"
        with disk_errors(self.scratch):
            self.scratch.mkdir(parents=True, exist_ok=True)
            apart = replace(self.engine, folding=self.scratch / "folding", generations=self.scratch)
            head = self._folded(apart, weight) if weight else self._known(apart)
            remove_tree(checkpoint)
            checkpoint.mkdir()
            apart.export(head, str(checkpoint), self.observer, self._earlier(head))
            copy_side_files(self.engine.base_path, checkpoint)
        found = finite_scores(self.score_of, checkpoint)
        self.observer.message("info", f"weigh: {self.candidate.name!r} at {weight:.4g}: {_shown(found)}")
        return found

    def _known(self, apart: LocalEngine) -> Head:
        """The committed merge, under a second name below the scratch folder."""
        if not apart.generation_folder(self.head.generation).exists():
            link_directory(
                self.engine.generation_folder(self.head.generation), apart.generation_folder(self.head.generation)
            )
        return self.head

    def _folded(self, apart: LocalEngine, weight: float) -> Head:
        before = self._known(apart)
        result = apart.fold(replace(self.candidate, weight=weight), before, self.observer)
        after = replace(
            before, generation=before.generation + 1, count=before.count + 1, totals=result.totals,
            statistics=result.statistics,
        )  # fmt: skip
        remove_tree(apart.generation_folder(after.generation))
        rename_directory(apart.folding, apart.generation_folder(after.generation))
        return after

    def _earlier(self, head: Head) -> Earlier:
        """No search for a scale inside of the search for a weight: the last version's scale serves all trials."""
        method = self.engine.method
        if not is_chosen_later(method) or asked_scale(method) != EVALUATE:
            return Earlier()
        last = self.earlier.last_scale
        return Earlier(recorded={"used": method.own_scale(head.totals) if last is None else last})


def _shown(scores: Scores) -> str:
    return ", ".join(f"{task} {score:.4g}" for task, score in sorted(scores.items())[:4])
