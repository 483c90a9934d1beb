"""The tests' side of the runner: start it, hand it jobs, two at a time."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

ROOT = Path(__file__).parents[2]
ANSWER_SECONDS = 120.0

Answer = dict[str, Any]
T = TypeVar("T")
R = TypeVar("R")


class Runner:
    """One runner process. ``inside``: a command that runs another, in a namespace of its own for example."""

    def __init__(self, inside: Sequence[str] = ()) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [*inside, sys.executable, "-m", "tests.support.crash_runner"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def do(self, job: dict[str, Any]) -> Answer:
        """Run a job in a fresh child; returns what it told. Bounded."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        text = b""
        while not text.endswith(b"\n"):
            ready, _, _ = select.select([self._process.stdout], [], [], ANSWER_SECONDS)
            part = os.read(self._process.stdout.fileno(), 1 << 16) if ready else b""
            assert part, f"the runner gave no answer to {job}"
            text += part
        answer: Answer = json.loads(text)
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()


class Runners:
    """A few runners; ``map`` keeps them all busy, ``do`` takes whichever is free."""

    def __init__(self, count: int) -> None:
        self._all = [Runner() for _ in range(count)]
        self._free: SimpleQueue[Runner] = SimpleQueue()
        for runner in self._all:
            self._free.put(runner)

    def do(self, site: Path, *actions: str, plan: dict[str, Any] | None = None, **fields: Any) -> Answer:
        job = {"site": str(site), "actions": actions, "plan": plan or {}, **fields}
        runner = self._free.get()
        try:
            return runner.do(job)
        finally:
            self._free.put(runner)

    def map(self, work: Callable[[T], R], over: Iterable[T]) -> list[R]:
        """Results in order; the first failure is raised after all have ended."""
        with ThreadPoolExecutor(len(self._all)) as pool:
            return list(pool.map(work, over))

    def close(self) -> None:
        for runner in self._all:
            runner.close()
