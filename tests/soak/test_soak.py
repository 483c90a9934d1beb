"""Thousands of tiny contributions through one node: nothing grows that should not.

The last thousand follow after everything bounded is full (a manifest lists a thousand contributions), so memory,
descriptors, threads and the work per contribution have to stand still. Work is counted in function calls, which do not
depend on what else the machine is doing.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import pytest

from mergenode.ledger.actions import Wait
from tests.soak.running import BATCH, MEASURED, WARM, Outcome, Soak, Window
from tests.support.checkpoints import finetuned, write_file

TOLERANCE = 2 << 20
"""RSS between the first and the last windows after warm-up, in bytes: under two kilobytes per contribution. A leak of
one fact, one entry or one tensor header per contribution is more."""
MEMORY = Path("/dev/shm")
WATCHED = 2
"""Inbox and requests; of each, one timer may end while the next one starts."""
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """Memory, where there is some: syncing to a disk would be most of the time and is tested elsewhere."""
    directory = Path(tempfile.mkdtemp(prefix="mergenode-soak-", dir=MEMORY if MEMORY.is_dir() else None))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def outcome(place: Path) -> Outcome:
    command = [sys.executable, "-m", "tests.soak.running", str(place)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    told = json.loads(ran.stdout.splitlines()[-1])
    return Outcome(**told | {"windows": [Window(**window) for window in told["windows"]]})


pytestmark = pytest.mark.slow


def test_everything_was_folded_once(outcome: Outcome) -> None:
    folds = (WARM + MEASURED) * BATCH
    assert folds >= 2000
    assert outcome.outcomes == {f"m{n:06d}.safetensors": ["folded"] for n in range(1, folds + 1)}
    assert outcome.versions == list(range(1, folds // 8 + 1))
    assert outcome.problems == []


def test_memory_stands_still(outcome: Outcome) -> None:
    first = median(window.resident for window in outcome.windows[:4])
    last = median(window.resident for window in outcome.windows[-4:])
    assert last - first < TOLERANCE, [window.resident >> 10 for window in outcome.windows]


def test_descriptors_and_threads_stand_still(outcome: Outcome) -> None:
    assert len({window.descriptors for window in outcome.windows}) == 1
    assert len({window.threads for window in outcome.windows}) == 1
    assert max(window.timers for window in outcome.windows) <= 2 * WATCHED, "a burst of events rests in a timer"


def test_no_temporary_file_is_left_and_the_disk_does_not_fill(outcome: Outcome) -> None:
    assert [window.temporary for window in outcome.windows if window.temporary] == []
    assert len({window.state_files for window in outcome.windows}) == 1
    assert outcome.published == 3


def test_a_contribution_costs_the_same_after_two_thousand_others(outcome: Outcome) -> None:
    early, late = outcome.calls[WARM], outcome.calls[-1]
    assert late < 1.02 * early, outcome.calls


def test_what_stays_in_the_registry_is_not_looked_at_again(place: Path) -> None:
    """Entries that were settled long ago cost a listing, no question to the ledger and no place in the plan."""
    with ExitStack() as stack:
        soak = Soak(place / "staying", stack)
        tensors = soak.node.tensors
        for number in range(150):
            write_file(soak.node.inbox / f"old{number:04d}.safetensors", finetuned(tensors, seed=number % 5))
        soak.drain()
        soak.loop.act(Wait(0.05, "poked"))
        soak.loop.decide()
        view = soak.loop.view()
        assert all(not listing.candidates for listing in view.listings.values())
        assert len(soak.loop.seen.outcomes) == 150
        outcomes = soak.node.outcomes()
        assert sum(found == ["folded"] for found in outcomes.values()) == 5
        assert sum(found == ["duplicate"] for found in outcomes.values()) == 145
