"""``python -m benchmarks.selection.speed --work DIR``: what scoring a pool costs, beside reading it.

Memory of a scoring process for 8 and for 64 candidates; a round of scores beside plain reading of the same files;
a pool of 1,000 ranked by the index and a short list, beside ranking it by reading everything.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file

from benchmarks.models import Shape, write_base, write_fine_tune
from benchmarks.selection.generated_pool import PoolShape, gradients, write_pool
from mergenode.adapters.checkpoints.base import BaseModel, describe_base
from mergenode.adapters.checkpoints.weights import open_weights
from mergenode.adapters.engines.local.pool.engine import LocalPool
from mergenode.adapters.engines.local.pool.objective import PoolObjective
from mergenode.ports.pool import WHOLE
from mergenode.types import Candidate, Digest

_ROUND_SHAPE = Shape(hidden=512, layers=6, intermediate=1408, vocab=4096, heads=8, kv_heads=8)
_CHUNK = 4 << 20
_BEST = 10

T = TypeVar("T")


def main() -> None:
    """Run the parts that were asked for; print figures and write them to ``DIR/speed.json``."""
    arguments = _arguments()
    work = arguments.work.resolve()
    if arguments.child:
        _child(work, arguments.child)
        return
    parts: Mapping[str, Callable[[Path, argparse.Namespace], Any]] = {
        "memory": measure_memory, "round": measure_round, "ranking": measure_ranking,
    }  # fmt: skip
    place = work / "speed.json"
    found: dict[str, Any] = json.loads(place.read_text()) if place.exists() else {}
    for name in arguments.parts:
        found[name] = parts[name](work, arguments)
        print(json.dumps({name: found[name]}, indent=2), flush=True)
        place.write_text(json.dumps(found, indent=2) + "\n")


# ---- memory, and a round beside reading


def measure_memory(work: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Peak RSS in MiB of a fresh process that scores candidates which are indexed already."""
    models = _round_models(work, max(arguments.counts))
    pool = _pool(models)
    for candidate in _candidates(models, max(arguments.counts)):
        pool.index(candidate)
    found = {}
    for count in arguments.counts:
        command = [sys.executable, "-m", "benchmarks.selection.speed", "--work", str(work), "--child", str(count)]
        runs = [float(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(3)]
        found[f"{count} candidates"] = median(runs)
    found["ratio"] = max(found.values()) / min(found.values())
    return found


def _child(work: Path, count: int) -> None:
    models = work / "round"
    scored = _pool(models).scores(models / "gradient.safetensors", _candidates(models, count))
    assert len(scored.scores) == count
    status = Path("/proc/self/status").read_text()
    print(next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")))


def measure_round(work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a round of scores over those of reading the same files once, alternating, caches cold and warm."""
    count = max(arguments.counts)
    models = _round_models(work, count)
    candidates, gradient = _candidates(models, count), models / "gradient.safetensors"
    files = [path for candidate in candidates for path in _weights(Path(candidate.location))]
    shared = [*_weights(models / "base"), gradient]
    pool = _pool(models)
    for candidate in candidates:
        pool.index(candidate)
    found: dict[str, Any] = {"candidates": count, "bytes": sum(path.stat().st_size for path in files)}
    for cache in ("cold", "warm"):
        before = (lambda: make_cold([*files, *shared], work)) if cache == "cold" else lambda: None
        actions = {"reading": lambda: read_all(files), "scores": lambda: pool.scores(gradient, candidates)}
        found[cache] = in_turn(actions, before, arguments.repeats)
        for number, clock in enumerate(("wall", "CPU")):
            pairs = zip(found[cache]["scores"], found[cache]["reading"], strict=True)
            ratios = [ours[number] / theirs[number] for ours, theirs in pairs]
            found[f"ratio, {cache}, {clock}"] = [median(ratios), min(ratios), max(ratios)]
    return found


def in_turn(
    actions: Mapping[str, Callable[[], object]], before: Callable[[], None], repeats: int
) -> dict[str, list[tuple[float, float]]]:
    """One uncounted turn, then ``repeats`` turns of all actions: wall and CPU seconds by action."""
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in actions}
    for turn in range(repeats + 1):
        for name, action in actions.items():
            before()
            start = (time.perf_counter(), time.process_time())
            action()
            if turn:
                samples[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return samples


def read_all(paths: Sequence[Path]) -> None:
    """Read files front to back through one buffer."""
    buffer = bytearray(_CHUNK)
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def evict(paths: Sequence[Path]) -> None:
    """Drop files from the page cache of this system; what lies below it, it cannot."""
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def make_cold(paths: Sequence[Path], work: Path) -> None:
    """Evict, and let pages of another file take the memory: as on a machine that has been up for a while.

    Memory that was free for seconds is slow to get in a virtual machine (its host has taken it back), several times
    slower than a disk, and whoever computes meanwhile feels it twice.
    """
    evict(paths)
    total = _memory("MemTotal")
    hole = work / "hole"
    with open(hole, "wb") as file:
        file.truncate(2 * total)  # no block on disk
    buffer = bytearray(_CHUNK)
    with open(hole, "rb", buffering=0) as file:
        for _ in range(2 * total // _CHUNK):
            if _memory("MemFree") < total // 9:
                break
            file.readinto(buffer)


def _memory(field: str) -> int:
    """A field of /proc/meminfo, in bytes."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


# ---- a pool of a thousand


def measure_ranking(work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Ranking by the index and a short list beside ranking by reading, for one gradient after the other."""
    models, shape = work / "ranking", PoolShape(width=arguments.width)
    write_pool(models, shape, count=arguments.pool, seed=arguments.seed)
    candidates = [_candidate(models / f"candidate-{number:04d}") for number in range(arguments.pool)]
    files = [path for candidate in candidates for path in _weights(Path(candidate.location))]
    pool = _pool(models)
    start = time.perf_counter()
    place = {pool.index(candidate).content: candidate for candidate in candidates}
    found: dict[str, Any] = {
        "candidates": len(place),
        "bytes": sum(path.stat().st_size for path in files),
        "index bytes": sum(path.stat().st_size for path in pool.folder.iterdir()),
        "indexing, s": time.perf_counter() - start,
        "trials": [],
    }
    made = gradients(models, shape, seed=arguments.seed, count=arguments.trials)
    for number, gradient in enumerate(made):
        # One index for all: another sketch of the pool would mean to read it again. What varies is the gradient.
        found["trials"].append(_trial(pool, gradient, place, cold=number % 2 == 0, files=files))
        print(json.dumps(found["trials"][-1]), flush=True)
        gradient.unlink()
    return found | _summary(found["trials"])


def _trial(
    pool: LocalPool, gradient: Path, place: Mapping[Digest, Candidate], *, cold: bool, files: Sequence[Path]
) -> dict[str, Any]:
    index = [path for path in pool.folder.iterdir() if path.suffix == ".sketch"]
    scratch = pool.folder.parent / "scratch"

    def timed(work: Callable[[], T]) -> tuple[float, T]:
        if cold:
            evict([*files, *index, gradient])
        start = time.perf_counter()
        found = work()
        return time.perf_counter() - start, found

    def scored(exact_up_to: int | None) -> tuple[float, Mapping[Digest, float]]:
        objective = PoolObjective(
            pool=pool, plugin=_Given(gradient), scratch=scratch, asked="", best=_BEST, exact_up_to=exact_up_to
        )
        objective.gradient_at({})
        seconds, found = timed(lambda: objective.scores(place, frozenset()))
        assert not found.unreadable
        return seconds, {content: groups[WHOLE] for content, groups in found.scores.items()}

    estimated, estimates = timed(lambda: pool.estimates(gradient))
    ranked, exact = scored(0)
    reading, truth = scored(None)
    apart = [(estimates[content].value - truth[content]) / estimates[content].error for content in truth]
    return {
        "cold": cold,
        "estimates, s": estimated,
        "index and short list, s": ranked,
        "reading, s": reading,
        "read": len(exact),
        "same top 10": best(exact, _BEST) == best(truth, _BEST),
        "same top 10 by estimates alone": set(best({c: e.value for c, e in estimates.items()}, _BEST))
        == set(best(truth, _BEST)),
        "error in standard errors, rms": (sum(z * z for z in apart) / len(apart)) ** 0.5,
        "error in standard errors, largest": max(map(abs, apart)),
    }


@dataclass(frozen=True)
class _Given:
    """A task whose gradient was computed before."""

    file: Path

    def gradient(self, checkpoint: Path, out: Path, *, batches: int | None = None) -> float:
        out.unlink(missing_ok=True)
        out.hardlink_to(self.file)
        return 0.0

    def losses(self, start: Path, end: Path, gammas: Sequence[float], *, batches: int | None = None) -> list[float]:
        raise NotImplementedError

    def losses_by_batch(self, checkpoint: Path, *, batches: int | None = None) -> list[float]:
        raise NotImplementedError


def best(scores: Mapping[Digest, float], count: int) -> list[Digest]:
    """The contents with the smallest scores, best first: the gradient points uphill."""
    return sorted(scores, key=lambda content: (scores[content], content))[:count]


def _summary(trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {"same top 10": sum(trial["same top 10"] for trial in trials) / len(trials)}
    found["same top 10 by estimates alone"] = sum(t["same top 10 by estimates alone"] for t in trials) / len(trials)
    found["read, median"] = median(trial["read"] for trial in trials)
    for cold in (True, False):
        those = [trial for trial in trials if trial["cold"] == cold]
        for part in ("estimates, s", "index and short list, s"):
            ratios = [trial["reading, s"] / trial[part] for trial in those]
            if ratios:
                name = f"reading / {part.removesuffix(', s')}, {'cold' if cold else 'warm'}"
                found[name] = [median(ratios), min(ratios), max(ratios)]
    return found


# ---- what all parts share


def _round_models(work: Path, count: int) -> Path:
    models = work / "round"
    if not (models / "base").exists():
        write_base(models / "base", _ROUND_SHAPE, seed=0)
    for number in range(1, count + 1):
        if not (models / f"tuned-{number}" / "config.json").exists():
            write_fine_tune(models / f"tuned-{number}", _ROUND_SHAPE, seed=0, number=number, ratio=0.03)
    if not (models / "gradient.safetensors").exists():
        _write_gradient(models)
    return models


def _write_gradient(models: Path) -> None:
    draw = torch.Generator().manual_seed(1)
    specs = describe_base(models / "base").specs.values()
    tensors = {spec.name: torch.randn(spec.shape, generator=draw) * 1e-4 for spec in specs}
    save_file(tensors, models / "gradient.safetensors")


def _pool(models: Path) -> LocalPool:
    base = models / "base"
    cached = models / "base.json"
    if not cached.exists():
        cached.write_text(describe_base(base).to_json())
    described = BaseModel.from_json(cached.read_text())
    return LocalPool(base=described, open_base=lambda: open_weights(base), folder=models / "index")


def _candidates(models: Path, count: int) -> list[Candidate]:
    return [_candidate(models / f"tuned-{number}") for number in range(1, count + 1)]


def _candidate(path: Path) -> Candidate:
    return Candidate("pool", path.name, "1", str(path))


def _weights(path: Path) -> Iterator[Path]:
    return iter(sorted(path.glob("*.safetensors")))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="directory for models, indices and results")
    parser.add_argument("--parts", nargs="+", default=["memory", "round", "ranking"])
    parser.add_argument("--counts", nargs="+", type=int, default=[8, 64], help="candidates, memory and round")
    parser.add_argument("--repeats", type=int, default=5, help="turns of the round")
    parser.add_argument("--pool", type=int, default=1000, help="candidates, ranking")
    parser.add_argument("--width", type=int, default=512, help="of the 16 matrices of a model, ranking")
    parser.add_argument("--trials", type=int, default=20, help="gradients, ranking")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
