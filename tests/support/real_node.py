"""A real node on real files: its directories, its settings, its ledger, in this process or in one of its own."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mergenode.adapters.observers.log import configure_logging
from mergenode.adapters.store.sqlite_ledger import open_reader
from mergenode.bootstrap.node import run_node
from mergenode.ledger.actions import Stop
from mergenode.ledger.records import ContributionFact, Fact, Published, Rejected
from mergenode.settings import load_settings
from tests.support.checkpoints import Tensors, base_tensors, finetuned, write_single
from tests.support.output_lines import OutputLines

ROOT = Path(__file__).parents[2]
OUTCOMES = ("folded", "rejected", "duplicate")


class RealNode:
    """One node below ``root``. ``settings`` override those of a quick node without HTTP."""

    def __init__(self, root: Path, *, tensors: Tensors | None = None, **settings: Any) -> None:
        self.root = root
        self.base = root / "base"
        self.inbox = root / "inbox"
        self.state = root / "state"
        self.published = root / "published"
        self.config = root / "node.yaml"
        self.tensors = base_tensors() if tensors is None else tensors
        write_single(self.base, self.tensors)
        self.inbox.mkdir(parents=True)
        self.configure(**settings)

    def configure(self, **settings: Any) -> None:
        """Write the settings file; sections given here replace the defaults'."""
        registry = {"url": "./inbox", "settle_seconds": 0, "settle_polls": 1, "poll_seconds": 0.1}
        document: dict[str, Any] = {
            "base": "./base",
            "registries": [registry],
            "http": {"listen": None},
            "engine": {"threads": 1, "device": "cpu"},
        }
        self.config.write_text(json.dumps(document | settings, indent=1))

    def tuned(self, seed: int) -> Tensors:
        return finetuned(self.tensors, seed=seed)

    def put(self, name: str, seed: int) -> Path:
        """A complete fine-tune in the registry, renamed into place."""
        staged = write_single(self.root / f".staged-{name}", self.tuned(seed))
        target = self.inbox / name
        if target.exists():
            target.rename(self.root / f".replaced-{name}-{seed}")
        staged.rename(target)
        return target

    def run_once(self) -> Stop:
        """``mergenode run --once`` in this process; what it logs is in ``log``."""
        stream = io.StringIO()
        configure_logging("json", "debug", stream)
        try:
            return run_node(load_settings(self.config), once=True)
        finally:
            self.log = stream.getvalue()

    def facts(self, *kinds: str) -> Sequence[Fact]:
        reader = open_reader(self.state / "ledger.sqlite")
        try:
            return [fact for _, fact in reader.facts(kinds=kinds)]
        finally:
            reader.close()

    def outcomes(self) -> dict[str, list[str]]:
        """Name of every contribution -> what became of it, rejections by their reason."""
        found: dict[str, list[str]] = {}
        for fact in self.facts(*OUTCOMES):
            assert isinstance(fact, ContributionFact)
            found.setdefault(fact.name, []).append(fact.reason if isinstance(fact, Rejected) else fact.kind)
        return found

    def versions(self) -> list[int]:
        return [fact.version for fact in self.facts("published") if isinstance(fact, Published)]

    def problems(self) -> Sequence[str]:
        reader = open_reader(self.state / "ledger.sqlite")
        try:
            return reader.verify()
        finally:
            reader.close()

    def manifest(self, version: str = "latest") -> Mapping[str, Any]:
        return dict(json.loads((self.published / version / "mergenode.json").read_bytes()))


class Process:
    """``python -m mergenode ...``, or another ``program``, with its output as lines, ended with the block.

    The output is read all the time, so that no node is held up by a full pipe while a test looks at another one.
    """

    def __init__(
        self,
        *args: object,
        cwd: Path = ROOT,
        before: Sequence[str] = (),
        program: Sequence[str] = (sys.executable, "-m", "mergenode"),
        extra: Mapping[str, str] | None = None,
    ) -> None:
        """``before``: a command that ends by running ``program``, which follows it. ``extra``: of its environment."""
        self.process = subprocess.Popen(
            [*before, *program, *map(str, args)],
            cwd=cwd,
            env=environment() | dict(extra or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._output = OutputLines(self.process.stdout)

    @property
    def lines(self) -> list[str]:
        """Of its output, so far."""
        return self._output.lines

    def until(self, text: str, patience: float = 240.0) -> str:
        """Go on in the output to the next line that holds ``text``."""
        return self._output.until(text, patience)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, read the rest, return the exit code."""
        self.process.send_signal(number)
        return self.join()

    def join(self) -> int:
        """Its exit code, once it ended and its output was read."""
        code = self.process.wait(240)
        self._output.join()
        return code

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self._output.close()


def environment() -> dict[str, str]:
    """Of a child process: one thread, the repository on the path."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "COLUMNS": "200"}


def mergenode(*args: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "mergenode", *map(str, args)],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def resident_bytes(field: str = "VmRSS") -> int:
    """Of this process. ``VmHWM`` is the peak since ``forget_peak``."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {field}")


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")
