"""``python -m tests.soak.running DIRECTORY``: a node in a process of its own that folds batch after batch.

In a process that ran other tests before, what they left behind comes and goes meanwhile. Prints an ``Outcome`` as JSON.
"""

from __future__ import annotations

import cProfile
import gc
import io
import json
import pstats
import sys
import threading
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

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
    timers: int
    temporary: tuple[str, ...]
    state_files: int


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
            threads=sum(not isinstance(thread, threading.Timer) for thread in threading.enumerate()),
            timers=sum(isinstance(thread, threading.Timer) for thread in threading.enumerate()),
            temporary=tuple(str(path) for path in hidden),
            state_files=sum(1 for _ in self.node.state.rglob("*")),
        )


@dataclass(frozen=True)
class Outcome:
    """Of ``WARM`` batches and ``MEASURED`` more: ``windows`` after each of the latter, ``calls`` per batch (0: not
    counted), and what the node's ledger and folders say in the end.
    """

    windows: list[Window]
    calls: list[int]
    outcomes: dict[str, list[str]]
    versions: list[int]
    problems: list[str]
    published: int


def run(place: Path) -> Outcome:
    with ExitStack() as stack:
        soak = Soak(place, stack)
        calls, windows = [], []
        for number in range(WARM + MEASURED):
            calls.append(soak.batch(counted=number in (WARM, WARM + MEASURED - 1)))
            windows.append(soak.window())
    node = soak.node
    return Outcome(
        windows[WARM:], calls, node.outcomes(), node.versions(), node.problems(), len(list(node.published.iterdir()))
    )


if __name__ == "__main__":
    print(json.dumps(asdict(run(Path(sys.argv[1])))))
