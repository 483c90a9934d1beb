"""``python -m benchmarks.engine.progress``: what it costs a fold that everybody can see how far it is.

The same fold again and again in one process, in turn with all observers of a node, with nobody who listens, and with a
pass that tells nothing at all. CPU seconds of the process.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from unittest.mock import patch

from prometheus_client import CollectorRegistry

from benchmarks.models import main as generate
from mergenode.adapters.checkpoints.base import describe_base
from mergenode.adapters.clock import SystemClock
from mergenode.adapters.engines.local.engine import LocalEngine, Resources
from mergenode.adapters.http.live import LiveStatus
from mergenode.adapters.observers.activity_metrics import ActivityMetrics
from mergenode.adapters.observers.fan_out import FanOut
from mergenode.adapters.observers.log import LogObserver, configure_logging
from mergenode.adapters.observers.prometheus import PrometheusObserver
from mergenode.methods import build_method
from mergenode.ports.observer import Observer, Progress
from mergenode.ports.told import Told
from mergenode.types import Candidate, Head


class Counting(FanOut):
    """How often a fold is told of."""

    words = 0

    def progress(self, progress: Progress) -> None:
        self.words += 1
        super().progress(progress)


def node_observers() -> Counting:
    """As ``bootstrap.node`` puts them together."""
    clock, registry = SystemClock(), CollectorRegistry()
    configure_logging("json", "info", io.StringIO())
    live = LiveStatus(clock, ["inbox"])
    ActivityMetrics(registry, live.activities)
    return Counting([LogObserver(clock), PrometheusObserver(registry, ["inbox"], clock), live])


def main() -> None:
    """Measure and print a line for each way and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="120m")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        generate(["--preset", options.preset, "--out", scratch, "--fine-tunes", "1", "--seed", "0"])
        fold = folding(place)
        watched, nobody = node_observers(), FanOut([])
        silent = patch.multiple(Told, add=lambda *a, **k: None, _tell=lambda *a, **k: None)
        taken: dict[str, list[float]] = {"watched": [], "nobody listens": [], "tells nothing": []}
        for number in range(options.repeats + 1):
            rounds: dict[str, Callable[[], float]] = {
                "watched": lambda: fold(watched), "nobody listens": lambda: fold(nobody),
                "tells nothing": lambda: silenced(silent, lambda: fold(nobody)),
            }  # fmt: skip
            for name, run in rounds.items():
                seconds = run()
                if number:
                    taken[name].append(seconds)
    for name, found in taken.items():
        print(f"{name:15} {median(found):.3f} s CPU ({min(found):.3f}-{max(found):.3f})")
    pairs = list(zip(taken["watched"], taken["tells nothing"], strict=True))
    print(f"watched / tells nothing: median of pairs {median(a / b for a, b in pairs):.4f}")
    told = watched.words // (options.repeats + 1)
    word = seconds_of_a_word(watched)
    share = told * word / median(taken["tells nothing"])
    print(f"told {told} times a fold, {1e6 * word:.1f} us CPU a time: {share:.2%} of it")


def seconds_of_a_word(observer: Observer, words: int = 20_000) -> float:
    """What it takes to be told once, all observers together: too little to be seen in a fold."""
    before = time.process_time()
    for number in range(words):
        observer.progress(Progress("fold", "measured", number, words, number, words))
    return (time.process_time() - before) / words


def silenced(patched: object, run: Callable[[], float]) -> float:
    with patched:  # type: ignore[attr-defined]  # what patch.multiple gives is a context manager
        return run()


def folding(place: Path) -> Callable[[Observer], float]:
    """A function that folds the same contribution from nothing, and says what CPU that took."""
    base = describe_base(place / "base")
    engine = LocalEngine(
        base_path=place / "base", base=base, method=build_method("task_arithmetic", {}), folding=place / "folding",
        generations=place / "statistics", resources=Resources(memory_limit=2 << 30, threads=1, device="cpu"),
    )  # fmt: skip
    candidate = Candidate("inbox", "tuned-1", "1", str(place / "tuned-1"))

    def fold(observer: Observer) -> float:
        shutil.rmtree(place / "folding", ignore_errors=True)
        before = time.process_time()
        engine.fold(candidate, Head(), observer)
        return time.process_time() - before

    return fold


if __name__ == "__main__":
    main()
