"""Generated bf16 models, and a process that measures folds of them in fresh children."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.models import Shape, write_suite
from tests.support.measured_fold import MIB, Runner

TWO_LAYERS = Shape(hidden=384, layers=2, intermediate=1024, vocab=4096, heads=6, kv_heads=6)
FOUR_LAYERS = replace(TWO_LAYERS, layers=4)
TWELVE_LAYERS = replace(TWO_LAYERS, layers=12)
FINE_TUNES = 3


@pytest.fixture(scope="session")
def suites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By number of layers: a base with three fine-tunes, or with an adapter alone."""
    root = tmp_path_factory.mktemp("models")
    write_suite(root / "two", TWO_LAYERS, fine_tunes=FINE_TUNES)
    write_suite(root / "four", FOUR_LAYERS, fine_tunes=FINE_TUNES)
    write_suite(root / "twelve", TWELVE_LAYERS, fine_tunes=0, adapters=1)
    return {name: root / name for name in ("two", "four", "twelve")}


@pytest.fixture(scope="session")
def runner() -> Iterator[Runner]:
    serving = Runner()
    yield serving
    serving.close()


@pytest.fixture
def measure(runner: Runner, suites: dict[str, Path], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Run a job on a suite; ``count`` folds take the fine-tunes in turn, ``model`` names one in their place."""

    def run(
        suite: str, method: str, count: int, *, limit: int = 2048 * MIB, model: str = "", **job: Any
    ) -> dict[str, Any]:
        work = tmp_path / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        names = [model or f"tuned-{number % FINE_TUNES + 1}" for number in range(count)]
        models = [str(suites[suite] / name) for name in names]
        base = str(suites[suite] / "base")
        return runner.run(base=base, models=models, method=method, memory_limit=limit, work=str(work), **job)

    return run


def suggested(refusal: dict[str, Any]) -> int:
    """The limit, in bytes, that a refusal tells its reader to set."""
    found = re.search(r"at least (\d+)MiB", refusal["hint"])
    assert found is not None, refusal
    return int(found[1]) * MIB
