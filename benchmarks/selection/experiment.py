"""Runs the pool experiments of one seed: selections by the code of mergenode, then the accuracy of what they give."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.quality.scoring import Scorer
from benchmarks.quality.stream import merge_stream
from benchmarks.selection.experts import folder
from benchmarks.selection.oracle import Measurements, PoolOracle, mean_loss
from benchmarks.selection.plan import FIRST, POOLS, WORST, Job, Pool, jobs
from benchmarks.selection.probe import Probe
from benchmarks.selection.screening import factors
from benchmarks.selection.suite import TARGETS, universe
from benchmarks.selection.vectors import GroupWeights, Vectors, Weights, open_space
from mergenode.selectors.contract import WHOLE, State
from mergenode.selectors.running import Selection, run

TEST_ROWS = 250
SCALES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Factors of a selection that are tried on the objective's training rows."""

CRUMBS = 0.02
"""Smaller weights are not handed on to another method."""

Record = dict[str, Any]


class Experiment:
    """Everything of one seed. Goes on where it was stopped; ``say`` is told one line per result."""

    def __init__(self, work: Path, seed: int, say: Callable[[str], None]) -> None:
        torch.set_num_threads(1)
        self._work, self.seed, self._say = work, seed, say
        space = open_space(work / "base")
        vectors = Vectors(space, folder(work), universe(seed))
        self.measured = Measurements(work / "points" / f"seed-{seed}", Probe(work / "base", seed), vectors)
        self._scorer = Scorer(work, TEST_ROWS)
        self._norms: dict[str, float] = {}

    def references(self) -> list[Record]:
        """The base and each of the four experts alone."""
        rows = [self._scored("base", FIRST, "none", {})]
        for candidate in FIRST.members(self.seed):
            rows.append(self._scored(f"expert {candidate.name}", FIRST, "none", {WHOLE: {candidate.name: 1.0}}))
        return rows

    def plain(self, pool: Pool) -> list[Record]:
        """Everything in the pool with one coefficient: 0.3 as published, and 1/n."""
        names = [candidate.name for candidate in pool.members(self.seed)]
        rules = {"task arithmetic 0.3": 0.3, "average (1/n)": 1.0 / len(names)}
        return [
            self._scored(label, pool, "none", {WHOLE: dict.fromkeys(names, coefficient)})
            for label, coefficient in rules.items()
        ]

    def selected(self, job: Job) -> list[Record]:
        """The selection, what it gives as it is, and merged by the methods that follow."""
        started, gradients = time.process_time(), self.measured.gradients
        used = factors({name: self._norm(name) for name in self._names(job.pool)}, job.screen)
        oracle = PoolOracle(self.measured, used)
        selection = run(State(), oracle, job.row.options)
        coefficients = oracle.coefficients(selection.state.weights)
        told = self._scored(job.row.label, job.pool, job.screen, coefficients)
        told |= _course(selection) | {
            "weights": selection.state.weights,
            "kinds": {name: self.measured.vectors.candidates[name].kind for name in used},
            "options": asdict(job.row.options),
            "left_out": sorted(set(self._names(job.pool)) - used.keys()),
            "cut": sorted(name for name, factor in used.items() if factor < 1.0),
            "cpu": time.process_time() - started,
            "gradients": self.measured.gradients - gradients,
        }
        followed = [self._followed(job, method, coefficients[WHOLE]) for method in job.row.follow]
        scaled = [self._scaled(job, coefficients[WHOLE])] if job.row.follow else []
        return [told, *followed, *scaled]

    def _scaled(self, job: Job, coefficients: Mapping[str, float]) -> Record:
        """The selection times the factor with the lowest loss of the objective: beyond the hull, on the same line."""
        lines = {factor: {WHOLE: {name: factor * weight for name, weight in coefficients.items()}} for factor in SCALES}
        losses = {factor: mean_loss(self.measured.losses(line)) for factor, line in lines.items()}
        best = min(losses, key=lambda factor: losses[factor])
        label = f"{job.row.label}, then the best scale"
        return self._scored(label, job.pool, job.screen, lines[best]) | {"scale": best, "losses": losses}

    def _names(self, pool: Pool) -> list[str]:
        return [candidate.name for candidate in pool.members(self.seed)]

    def _norm(self, name: str) -> float:
        if name not in self._norms:
            self._norms[name] = self.measured.vectors.norm(name)
        return self._norms[name]

    def _followed(self, job: Job, method: str, coefficients: Mapping[str, float]) -> Record:
        """The chosen experts merged by a method, weights scaled to a mean of 1: methods set their own length."""
        kept = {name: weight for name, weight in sorted(coefficients.items()) if weight >= CRUMBS}
        mean = sum(kept.values()) / len(kept)
        weights = {name: weight / mean for name, weight in kept.items()}
        label = f"{job.row.label}, then {method}"
        if any(self.measured.vectors.candidates[name].factor != 1.0 for name in weights):
            return {"label": label, "seed": self.seed, "pool": asdict(job.pool), "screen": job.screen, "missing": True}

        def merged() -> Weights:
            paths = [folder(self._work) / name for name in weights]
            own = self._work / f"merging-{self.seed}"
            stream = merge_stream(
                self._work / "base", paths, method, {}, [len(paths)], own, weights=list(weights.values())
            )
            return next(snapshot.load() for snapshot in stream)

        digest = f"{method}-{self.measured.point({WHOLE: weights})}"
        return self._record(label, job.pool, job.screen, {WHOLE: weights}, digest, merged)

    def _scored(self, label: str, pool: Pool, screen: str, coefficients: GroupWeights) -> Record:
        def weights() -> Weights:
            return self.measured.vectors.space.weights(self.measured.vectors.combined(coefficients))

        digest = f"point-{self.measured.point(coefficients)}"
        record = self._record(label, pool, screen, coefficients, digest, weights)
        return record | {"probe_loss": mean_loss(self.measured.losses(coefficients))}

    def _record(
        self,
        label: str,
        pool: Pool,
        screen: str,
        coefficients: GroupWeights,
        digest: str,
        weights: Callable[[], Mapping[str, Tensor]],
    ) -> Record:
        scores = self._scorer.score(digest, weights, TARGETS)
        accuracies = {task: score.accuracy for task, score in scores.items()}
        record: Record = {
            "label": label,
            "seed": self.seed,
            "pool": asdict(pool),
            "screen": screen,
            "accuracy": sum(accuracies.values()) / len(accuracies),
            "tasks": accuracies,
            "coefficients": coefficients,
        }
        self._say(f"seed {self.seed}: {pool.label}, {screen}: {label}: {record['accuracy']:.4f}")
        return record


def _course(selection: Selection) -> Record:
    return {
        "stop": selection.stop,
        "gaps": [part.proposal.gap for part in selection.rounds],
        "moves": [
            {group: [move.toward, move.away] for group, move in part.proposal.moves.items()}
            for part in selection.rounds
        ],
    }


def run_seed(work: Path, seed: int, say: Callable[[str], None], rows: Sequence[str], *, core: bool) -> None:
    """The jobs of these ``rows`` (none: of all), into ``work/pools/seed-N.json``, which holds what was done so far.

    ``core``: only with none and with all irrelevant ones.
    """
    experiment = Experiment(work, seed, say)
    file = work / "pools" / f"seed-{seed}.json"
    file.parent.mkdir(exist_ok=True)
    records: dict[str, Record] = json.loads(file.read_text()) if file.exists() else {}

    def keep(found: list[Record]) -> None:
        records.update({_key(record): record for record in found})
        file.write_text(json.dumps(records, indent=1))

    pools = (FIRST, WORST) if core else POOLS
    keep(experiment.references())
    for pool in (FIRST, WORST):
        keep(experiment.plain(pool))
    for job in jobs():
        if job.pool in pools and (not rows or job.row.label in rows):
            keep(experiment.selected(job))
    for pool in pools:
        keep(experiment.plain(pool))


def _key(record: Record) -> str:
    return json.dumps([record["label"], record["pool"], record["screen"]])
