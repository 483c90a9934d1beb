"""Runs jobs: merges through the engine, scores what comes out, keeps every result as a file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from blake3 import blake3
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.quality.encoder import load_encoder
from benchmarks.quality.experts import Expert
from benchmarks.quality.figures import norm_rule
from benchmarks.quality.literal_opcm import opcm_block
from benchmarks.quality.plan import SCALES, SWEPT, Job
from benchmarks.quality.refining import Refiner
from benchmarks.quality.scoring import Score, Scorer
from benchmarks.quality.side_cars import with_side_cars
from benchmarks.quality.stream import Snapshot, merge_stream
from benchmarks.quality.tasks import TASKS

Weights = Mapping[str, Tensor]
Result = dict[str, Any]


@dataclass(slots=True)
class Bench:
    """Where everything lies, and who scores. ``say``: told one line per finished job."""

    work: Path
    scorers: dict[int | None, Scorer]
    say: Callable[[str], None]

    def scorer(self, rows: int | None) -> Scorer:
        if rows not in self.scorers:
            self.scorers[rows] = Scorer(self.work, rows)
        return self.scorers[rows]

    @property
    def base(self) -> Path:
        return self.work / "base"

    def base_weights(self) -> Weights:
        return load_file(self.base / "model.safetensors")


def run_job(bench: Bench, job: Job) -> Result:
    """The result of a job, from its file if there is one. Durability: a result appears whole."""
    contents = [content_of(expert.checkpoint(bench.work)) for expert in job.experts]
    file = bench.work / "results" / f"{job.setting.name}-{_digest(job.key, contents)}.json"
    if file.exists():
        return dict(json.loads(file.read_text()))
    streamed = _literal(bench, job) if job.contestant.literal else _stream(bench, job)
    result: Result = {
        "setting": job.setting.name,
        "label": job.contestant.label,
        "method": job.contestant.method,
        "options": dict(job.contestant.options),
        "order": job.order,
        "experts": [expert.name for expert in job.experts],
        "snapshots": list(streamed),
    }
    _keep(file, result)
    bench.say(f"{job.setting.name}: {job.contestant.label}, order {job.order}, {job.sizes}")
    return result


def order_differences(bench: Bench, jobs: Sequence[Job]) -> list[float]:
    """How far the merge in each job's order is from that in the listed order: ||A - B|| / ||A - base||.

    ``jobs``: other orders of the same experts with the same method.
    """
    in_listed_order = cache(lambda: _merged(bench, replace(jobs[0], experts=_listed(jobs[0]))))
    return [_difference(bench, job, in_listed_order) for job in jobs]


def _listed(job: Job) -> tuple[Expert, ...]:
    return tuple(sorted(job.experts, key=lambda expert: (expert.shard, TASKS.index(expert.task))))


def _difference(bench: Bench, job: Job, in_listed_order: Callable[[], Weights]) -> float:
    contents = [content_of(expert.checkpoint(bench.work)) for expert in job.experts]
    file = bench.work / "results" / f"order-{_digest(job.key, contents)}.json"
    if not file.exists():
        one, other = in_listed_order(), _merged(bench, job)
        difference = _norm_of({name: other[name] - one[name] for name in one})
        base = bench.base_weights()
        _keep(file, {"relative": difference / _norm_of({name: one[name] - base[name] for name in one})})
        bench.say(f"{job.setting.name}: {job.contestant.label}, order {job.order} against the listed one")
    return float(json.loads(file.read_text())["relative"])


def _paths(bench: Bench, job: Job) -> list[Path]:
    if job.contestant.needs_side_cars:
        return [with_side_cars(bench.work, expert) for expert in job.experts]
    return [expert.checkpoint(bench.work) for expert in job.experts]


def _merged(bench: Bench, job: Job) -> Weights:
    paths = _paths(bench, job)
    own = bench.work / f"merging-{os.getpid()}"
    contestant = job.contestant
    stream = merge_stream(bench.base, paths, contestant.method, contestant.options, [len(paths)], own)
    return next(snapshot.load() for snapshot in stream)


def _norm_of(tensors: Weights) -> float:
    return sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors.values()))


def score_expert(bench: Bench, expert: Expert, rows: int | None) -> Score:
    """The expert's own accuracy on its own task."""
    checkpoint = expert.checkpoint(bench.work)
    weights = checkpoint / "model.safetensors"
    return bench.scorer(rows).score(content_of(checkpoint), lambda: load_file(weights), [expert.task])[expert.task]


def score_base(bench: Bench, tasks: Sequence[str], rows: int | None) -> dict[str, Score]:
    """The base's accuracy."""
    return bench.scorer(rows).score("base", bench.base_weights, tasks)


def _tasks(job: Job, count: int) -> list[str]:
    return list(dict.fromkeys(expert.task for expert in job.experts[:count]))


def _exports(job: Job) -> list[int]:
    every = range(1, len(job.experts) + 1) if job.transfer else ()
    return sorted({*every, *job.sizes, *job.swept})


def _stream(bench: Bench, job: Job) -> Iterator[Result]:
    base = bench.base_weights()
    for snapshot, merged in _merges(bench, job):
        delta = {name: merged[name] - base[name] for name in merged}
        norm = _norm_of(delta)
        result: Result = {
            "count": snapshot.count,
            "digest": snapshot.digest,
            "merged_norm": norm,
            "mean_norm": snapshot.mean_norm,
            "state_bytes": snapshot.state_bytes,
            "fold_cpu": snapshot.fold_cpu,
            "export_cpu": snapshot.export_cpu,
        }
        if job.transfer or snapshot.count in job.sizes:
            result["own"] = _own(bench, job, snapshot.count, snapshot.digest, merged)
        factor = norm_rule(snapshot.mean_norm, norm)
        scale = _Scaling(bench, base, delta, snapshot.digest)
        if snapshot.count in job.sizes and _by_norm(job, snapshot.count):
            result["norm"] = scale.score(factor, _tasks(job, snapshot.count), job.rows)
        if snapshot.count in job.swept:
            factors = {f"{value:g}": value for value in SCALES} | {"norm": factor}
            tasks = _tasks(job, snapshot.count)
            result["sweep"] = {name: scale.score(value, tasks, job.rows) for name, value in factors.items()}
            result["norm_factor"] = factor
        yield result


def _merges(bench: Bench, job: Job) -> Iterator[tuple[Snapshot, Weights]]:
    """What is scored; of a refined contestant the merges after the training, which counts as part of the export."""
    paths, contestant = _paths(bench, job), job.contestant
    own = bench.work / f"merging-{os.getpid()}"
    stream = merge_stream(bench.base, paths, contestant.method, contestant.options, _exports(job), own)
    if not contestant.refined:
        yield from ((snapshot, snapshot.load()) for snapshot in stream)
        return
    own = bench.work / f"refining-{os.getpid()}"
    with Refiner(bench.base, own, bench.work / "refined", contestant.code) as refiner:
        for snapshot in stream:
            done = refiner.refine(snapshot.weights, paths[: snapshot.count])
            told = {
                "digest": done.digest,
                "export_cpu": snapshot.export_cpu + done.cpu,
                "state_bytes": snapshot.state_bytes + done.sums_bytes,
            }
            yield replace(snapshot, **told), load_file(done.weights)


def _by_norm(job: Job, count: int) -> bool:
    """Where the norm rule is scored too: task arithmetic is the control at every size, others where they are swept."""
    method = job.contestant.method
    swept = not method.startswith("opcm") and not job.contestant.refined and count in SWEPT[job.setting.name]
    return method == "task_arithmetic" or swept


def _own(bench: Bench, job: Job, count: int, digest: str, merged: Weights) -> dict[str, list[int]]:
    """Scores at the method's own scale: all tasks at a size of the plan, else only the task that was just folded."""
    tasks = _tasks(job, count) if count in job.sizes else [job.experts[count - 1].task]
    return _plain(bench.scorer(job.rows).score(digest, lambda: merged, tasks))


def _plain(scores: Mapping[str, Score]) -> dict[str, list[int]]:
    return {task: [score.correct, score.rows] for task, score in scores.items()}


@dataclass(frozen=True, slots=True)
class _Scaling:
    """``base + factor * delta``, scored. Linear: no method has to decompose anything again."""

    bench: Bench
    base: Weights
    delta: Weights
    digest: str

    def score(self, factor: float, tasks: Sequence[str], rows: int | None) -> dict[str, list[int]]:
        def weights() -> Weights:
            return {name: torch.add(self.base[name], self.delta[name], alpha=factor) for name in self.base}

        name = self.digest if factor == 1.0 else f"{self.digest}@{factor:.9g}"
        return _plain(self.bench.scorer(rows).score(name, weights, tasks))


def _literal(bench: Bench, job: Job) -> Iterator[Result]:
    model = load_encoder(bench.base)
    linear = [f"{name}.weight" for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    base = bench.base_weights()
    for count in job.sizes:
        paths = [expert.checkpoint(bench.work) / "model.safetensors" for expert in job.experts[:count]]
        digest = f"literal-{_digest(job.key, [content_of(path.parent) for path in paths])}"

        def weights(paths: Sequence[Path] = paths) -> Weights:
            return opcm_block(base, (load_file(path) for path in paths), linear)

        scores = bench.scorer(job.rows).score(digest, weights, _tasks(job, count))
        yield {"count": count, "digest": digest, "own": _plain(scores)}


@cache
def content_of(checkpoint: Path) -> str:
    """Digest of a checkpoint's weight file."""
    return blake3((checkpoint / "model.safetensors").read_bytes()).hexdigest()[:32]


def _digest(*parts: object) -> str:
    return blake3(repr(parts).encode()).hexdigest()[:24]


def _keep(file: Path, result: Result) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    private = file.with_suffix(f".{os.getpid()}")
    private.write_text(json.dumps(result, sort_keys=True))
    private.rename(file)
