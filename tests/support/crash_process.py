"""``python -m mergenode run`` as a process of its own: its log as events, its signals, its end; all waits bounded."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tests.support.crash_runners import ROOT
from tests.support.crash_world import Site, pin

PATIENCE_SECONDS = 60.0
LAYERS, WIDTH = 12, 320
"""A second fold into a base of this size takes around a second: long enough to be met by a signal."""


def write_wide(path: Path, seed: int) -> Path:
    """A model of square matrices; seed 0 is the base, the others are fine-tunes of it."""
    path.mkdir(parents=True)
    base, rng = np.random.default_rng(0), np.random.default_rng(seed)
    tensors = {}
    for layer in range(LAYERS):
        tensor = base.standard_normal((WIDTH, WIDTH)).astype(np.float32)
        update = 0.05 * rng.standard_normal((WIDTH, WIDTH)).astype(np.float32) if seed else 0
        tensors[f"layers.{layer}.proj.weight"] = tensor + update
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    pin(path)
    return path


def write_settings(
    site: Site, base: Path, registry: Path, *, poll_seconds: float = 0.1, drain_seconds: float = 60.0
) -> None:
    site.root.mkdir(parents=True, exist_ok=True)
    settings = {
        "node": {"name": "node", "state": str(site.state)},
        "base": str(base),
        "registries": [{"url": str(registry), "settle_seconds": 0, "settle_polls": 1, "poll_seconds": poll_seconds}],
        "publish": {"path": str(site.published)},
        "engine": {"threads": 1, "device": "cpu"},
        "http": {"listen": None},
        "log": {"format": "json", "level": "debug"},
        "shutdown": {"drain_seconds": drain_seconds},
    }
    site.config.write_text(json.dumps(settings))


class Node:
    """A daemon that was started; use it in ``with``: it is killed at the end if it still runs."""

    def __init__(self, site: Site, *options: str, inside: Sequence[str] = ()) -> None:
        command = [*inside, sys.executable, "-m", "mergenode", "run", "-c", str(site.config), *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(command, env=environment, cwd=site.root, stderr=subprocess.PIPE, bufsize=0)
        self.lines: list[str] = []
        self._rest = b""

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Log events of this name so far."""
        found = [json.loads(line) for line in self.lines if line.startswith("{")]
        return [event for event in found if event.get("event") == name]

    def until(self, reached: Callable[[], Any], what: str) -> None:
        """Read the log until something is true, which is asked after every line and every few milliseconds."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not reached():
            assert self.process.poll() is None or self._read(0.0), f"ended before {what}: {self.lines[-5:]}"
            assert time.monotonic() < deadline, f"waited in vain for {what}: {self.lines[-5:]}"
            self._read(0.005)

    def end(self) -> int:
        """The exit code; the rest of the log is read."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._read(0.1) is not None:
            assert time.monotonic() < deadline, f"does not end: {self.lines[-5:]}"
        return self.process.wait(timeout=PATIENCE_SECONDS)

    def _read(self, seconds: float) -> bool | None:
        """Take over what the node wrote; False when nothing came, None when nothing will."""
        assert self.process.stderr is not None
        if not select.select([self.process.stderr], [], [], seconds)[0]:
            return False
        part = os.read(self.process.stderr.fileno(), 1 << 16)
        if not part:
            return None
        *whole, self._rest = (self._rest + part).split(b"\n")
        self.lines += [line.decode() for line in whole]
        return True
