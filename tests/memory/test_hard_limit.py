"""Under a limit that the system enforces: a script that loads everything dies, a merge ends with exit code 0."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.models import write_suite
from tests.memory.conftest import FINE_TUNES, FOUR_LAYERS, suggested
from tests.support.measured_fold import MIB, ROOT

Measure = Callable[..., dict[str, Any]]
CGROUP = Path("/sys/fs/cgroup")
EIGHT = 8


@pytest.fixture
def cgroup() -> Iterator[Callable[[int], Path]]:
    """Makes a memory cgroup with a limit in bytes, of either version; removed afterwards."""
    made: list[Path] = []

    def make(limit: int) -> Path:
        v1 = CGROUP / "memory"
        place = (v1 if v1.is_dir() else CGROUP) / f"mergenode-test-{os.getpid()}-{len(made)}"
        try:
            place.mkdir()
            made.append(place)
            (place / ("memory.limit_in_bytes" if v1.is_dir() else "memory.max")).write_text(str(limit))
        except OSError as error:
            pytest.skip(f"no memory cgroup can be made here: {error}")
        return place

    yield make
    for place in made:
        place.rmdir()


def run_inside(place: Path, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command in a cgroup that it enters before anything is loaded."""
    entering = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(place), *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(entering, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.root
@pytest.mark.slow
def test_a_merge_lives_where_a_script_is_killed(tmp_path: Path, cgroup: Callable[[int], Path]) -> None:
    """The limit of the system is ``--memory-limit`` itself: what is promised is enough.

    Eight models: a script needs some 650 MiB for them beside the libraries, however much of these the system counts.
    """
    suite = tmp_path / "suite"
    write_suite(suite, FOUR_LAYERS, fine_tunes=EIGHT)
    models = [str(suite / f"tuned-{number}") for number in range(1, EIGHT + 1)]
    places = ["--base", str(suite / "base"), "--output", str(tmp_path / "out"), "--json"]
    merge = [sys.executable, "-m", "mergenode", "merge", *places, *models, "--memory-limit"]
    refused = run_inside(cgroup(2048 * MIB), [*merge, "16MiB"])
    assert refused.returncode == 1
    limit = suggested({"hint": refused.stderr}) + 4 * MIB  # the next process is not of the same size to the page
    alive = run_inside(cgroup(limit), [*merge, str(limit)])
    assert alive.returncode == 0, alive.stderr
    assert json.loads(alive.stdout)["count"] == EIGHT
    job = json.dumps({"naive": True, "base": str(suite / "base"), "models": models})
    dead = run_inside(cgroup(limit), [sys.executable, "-m", "tests.support.measured_fold", job])
    assert dead.returncode == -signal.SIGKILL, dead


def test_folds_live_where_a_script_gets_no_memory(measure: Measure) -> None:
    """The same where no cgroup can be made: private memory is bounded by the process's own resource limit."""
    allowed = measure("four", "opcm", 0)["private"] + 160 * MIB
    dead = measure("four", "average", FINE_TUNES, naive=True, rlimit_data=allowed)
    assert dead["exit"] != 0
    assert measure("four", "average", FINE_TUNES, naive=True, rlimit_data=8 * allowed)["exit"] == 0
    alive = measure("four", "opcm", FINE_TUNES, rlimit_data=allowed)
    assert alive["exit"] == 0 and len(alive["anonymous"]) == FINE_TUNES
