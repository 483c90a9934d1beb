"""Thousands of tiny contributions through one node: nothing grows that should not.

The last thousand follow after everything bounded is full (a manifest lists a thousand contributions), so memory,
descriptors, threads and the work per contribution have to stand still. Work is counted in function calls, which do not
depend on what else the machine is doing.
"""

from __future__ import annotations

import cProfile
import gc
import io
import pstats
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest
import torch
from prometheus_client import CollectorRegistry

from mergenode.adapters.clock import SystemClock
from mergenode.adapters.http.live import LiveStatus
from mergenode.adapters.observers.fan_out import FanOut
from mergenode.adapters.observers.log import LogObserver, configure_logging
from mergenode.adapters.observers.prometheus import PrometheusObserver
from mergenode.bootstrap.node import open_loop, open_state
from mergenode.daemon.lifecycle import Lifecycle
from mergenode.daemon.loop import Loop
from mergenode.ledger.actions import Stop, Wait
from mergenode.settings import load_settings
from tests.support.checkpoints import finetuned, write_file
from tests.support.real_node import RealNode, resident_bytes

BATCH = 100
WARM, MEASURED = 10, 11
TOLERANCE = 2 << 20
"""RSS between the first and the last windows after warm-up, in bytes: under two kilobytes per contribution. A leak of
one fact, one entry or one tensor header per contribution is more."""
MEMORY = Path("/dev/shm")


class Nowhere(io.TextIOBase):
    """The log of a node whose lines nobody keeps."""

    def write(self, text: str) -> int:
        return len(text)


@dataclass(frozen=True)
class Window:
    """What the process held after a batch."""

    resident: int
    descriptors: int
    threads: int
    temporary: tuple[str, ...]
    state_files: int


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """Memory, where there is some: syncing to a disk would be most of the time and is tested elsewhere."""
    directory = Path(tempfile.mkdtemp(prefix="mergenode-soak-", dir=MEMORY if MEMORY.is_dir() else None))
    yield directory
    shutil.rmtree(directory)


class Soak:
    """A node that runs on, batch after batch."""

    def __init__(self, place: Path, stack: ExitStack) -> None:
        draw = torch.Generator().manual_seed(0)
        tensors = {
            "model.layers.0.up.weight": torch.randn(8, 8, generator=draw),
            "model.layers.1.up.bias": torch.randn(8, generator=draw),
        }
        registry = {"url": "./inbox", "settle_seconds": 0, "settle_polls": 1, "poll_seconds": 10}
        self.node = RealNode(
            place, tensors=tensors, registries=[registry], publish={"keep": 2, "every": {"contributions": 8}}
        )
        settings, clock = load_settings(self.node.config), SystemClock()
        configure_logging("json", "debug", Nowhere())
        names = ["inbox", "ingest"]
        observers = [
            LogObserver(clock),
            PrometheusObserver(CollectorRegistry(), names, clock),
            LiveStatus(clock, names),
        ]
        lifecycle = Lifecycle(clock, drain_seconds=1.0)
        stack.callback(lifecycle.close)
        ledger = stack.enter_context(open_state(settings))
        self.loop: Loop = stack.enter_context(open_loop(settings, ledger, FanOut(observers), lifecycle))
        self.count = 0

    def batch(self, *, counted: bool) -> int:
        """Fold a batch and take its files away; returns the calls it took, 0 when they are not counted."""
        files = []
        for _ in range(BATCH):
            self.count += 1
            file = self.node.inbox / f"m{self.count:06d}.safetensors"
            files.append(write_file(file, finetuned(self.node.tensors, seed=self.count)))
        with cProfile.Profile() if counted else nullcontext() as profile:
            self.drain()
        for file in files:
            file.unlink()
        return int(pstats.Stats(profile).total_calls) if profile else 0  # type: ignore[attr-defined]  # not in stubs

    def drain(self) -> None:
        self.loop.act(Wait(0.05, "poked"))
        while not isinstance(action := self.loop.decide(), Wait):
            assert not isinstance(action, Stop)
            self.loop.act(action)

    def window(self) -> Window:
        gc.collect()
        hidden = [path for root in (self.node.state, self.node.published) for path in root.rglob(".*")]
        return Window(
            resident=resident_bytes(),
            descriptors=len(list(Path("/proc/self/fd").iterdir())),
            threads=threading.active_count(),
            temporary=tuple(str(path) for path in hidden),
            state_files=sum(1 for _ in self.node.state.rglob("*")),
        )


@dataclass
class Outcome:
    node: RealNode
    windows: list[Window]
    calls: list[int]


@pytest.fixture(scope="module")
def outcome(place: Path) -> Iterator[Outcome]:
    with ExitStack() as stack:
        soak = Soak(place, stack)
        calls, windows = [], []
        for number in range(WARM + MEASURED):
            calls.append(soak.batch(counted=number in (WARM, WARM + MEASURED - 1)))
            windows.append(soak.window())
    yield Outcome(soak.node, windows[WARM:], calls)


pytestmark = pytest.mark.slow


def test_everything_was_folded_once(outcome: Outcome) -> None:
    folds = (WARM + MEASURED) * BATCH
    assert folds >= 2000
    assert outcome.node.outcomes() == {f"m{n:06d}.safetensors": ["folded"] for n in range(1, folds + 1)}
    assert outcome.node.versions() == list(range(1, folds // 8 + 1))
    assert outcome.node.problems() == []


def test_memory_stands_still(outcome: Outcome) -> None:
    first = median(window.resident for window in outcome.windows[:4])
    last = median(window.resident for window in outcome.windows[-4:])
    assert last - first < TOLERANCE, [window.resident >> 10 for window in outcome.windows]


def test_descriptors_and_threads_stand_still(outcome: Outcome) -> None:
    assert len({window.descriptors for window in outcome.windows}) == 1
    threads = [window.threads for window in outcome.windows]
    assert max(threads) - min(threads) <= 1, "the watch rests in a timer after a burst of events"


def test_no_temporary_file_is_left_and_the_disk_does_not_fill(outcome: Outcome) -> None:
    assert {window.temporary for window in outcome.windows} == {()}
    assert len({window.state_files for window in outcome.windows}) == 1
    assert len(list(outcome.node.published.iterdir())) == 3


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
