"""A real node as the demo sees it from outside: a process, a settings file, a log and a ledger."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mergenode.adapters.store.sqlite_ledger import open_reader
from mergenode.errors import FatalError
from mergenode.ledger.records import ContributionFact, Fact, Published
from mergenode.ports.ledger_store import LedgerReader

PATIENCE_SECONDS = 60.0
LOG_LINES = 15

SETTINGS = """\
# Settings of the demo's node. `mergenode config check node.yaml` reads it, `mergenode run -c node.yaml` starts it.
node: {name: demo, state: ./state}
base: ./base
registries:
  - url: ./inbox
    settle_seconds: 1.0         # a real share needs the default of 30
    settle_polls: 2
    poll_seconds: 0.5
method: {name: opcm, alpha: 0.5}
publish: {path: ./published, keep: 20}
http: {listen: "127.0.0.1:0"}   # any free port; the log names it
engine: {threads: 1}
"""

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Interruption:
    """What a frozen node was doing to one contribution the moment before it was killed."""

    name: str
    files: tuple[str, ...]
    size_bytes: int


class NodeProcess:
    """One ``mergenode run``. Owns the process and its log; ``close`` ends it whatever happened."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "node.yaml"
        self.log = directory / "node.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process and wait until its ledger answers.

        Raises:
            FatalError: it ended, or did not get ready in time; the message holds the end of its log.
        """
        self.await_ready(self.launch())

    def launch(self) -> int:
        """Start the process without waiting for it; where its part of the log begins, for ``await_ready``."""
        offset = self.log_size()
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own program with arguments of our own
                self.command,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(log)
        return offset

    def await_ready(self, offset: int, patience: float = PATIENCE_SECONDS) -> None:
        """Wait until the process that was launched serves. Raises FatalError as ``start``."""
        self.wait("get ready", lambda: "http://" in self.log_since(offset) or None, patience)

    @property
    def command(self) -> list[str]:
        """What is started."""
        return [sys.executable, "-m", "mergenode", "run", "-c", str(self.config)]

    @property
    def launched(self) -> bool:
        """Whether it was started once; it may have ended since."""
        return self._process is not None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "start() comes first"
        return self._process

    def kill(self) -> None:
        """SIGKILL: the process gets no chance to do anything."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """SIGTERM, and the exit code it ends with."""
        self.process.terminate()
        return self.exit_code()

    def exit_code(self) -> int:
        """Wait for the end of a process that was told to end. Raises FatalError: patience ended first."""
        try:
            return self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise self._failed("did not end on SIGTERM") from error

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def ask(self, question: Callable[[LedgerReader], Found]) -> Found:
        """The ledger's answer, read beside the running node."""
        with closing(open_reader(self.directory / "state" / "ledger.sqlite")) as reader:
            return question(reader)

    def outcome(self, name: str) -> ContributionFact | None:
        """The newest fact about a contribution once it is decided: folded, rejected or duplicate."""
        facts = self.ask(lambda reader: reader.facts(kinds=("folded", "rejected", "duplicate"), name=name, newest=1))
        fact = facts[-1][1] if facts else None
        return fact if isinstance(fact, ContributionFact) else None

    def wait_outcome(self, name: str) -> ContributionFact:
        """Wait for the decision about a contribution."""
        return self.wait(f"decide about {name}", lambda: self.outcome(name))

    def wait_version(self, generation: int) -> Published:
        """Wait until this generation is published."""

        def published(reader: LedgerReader) -> Published | None:
            return next((fact for fact in reader.versions() if fact.generation == generation), None)

        return self.wait(f"publish generation {generation}", lambda: self.ask(published))

    def wait(
        self, what: str, probe: Callable[[], Found | None], patience: float = PATIENCE_SECONDS, pause: float = 0.02
    ) -> Found:
        """Ask until there is an answer, every ``pause`` seconds.

        Raises:
            FatalError: the process ended, or the patience did.
        """
        deadline = time.monotonic() + patience
        while (found := probe()) is None:
            if self.process.poll() is not None:
                raise self._failed(f"ended with exit code {self.process.returncode} instead of going on to {what}")
            if time.monotonic() > deadline:
                raise self._failed(f"did not {what} within {patience:.0f} s")
            time.sleep(pause)  # another process works: files are the only sign it gives
        return found

    def freeze_fold(self, name: str) -> Interruption | None:
        """Stop the process (SIGSTOP) as soon as data of the fold of ``name`` lies on disk, and look at what lies there.

        Returns None, the process running again, when the fold was committed before it could be stopped: small models
        fold fast. Otherwise the process stays frozen.
        """
        folding = self.directory / "state" / "folding"
        deadline = time.monotonic() + PATIENCE_SECONDS
        begun = False
        # Without a pause between two looks: the whole fold takes milliseconds.
        while time.monotonic() < deadline and self.process.poll() is None:
            sizes = _sizes(folding)
            if any(size > 0 and "shard" in name for name, size in sizes.items()) or (begun and not sizes):
                break
            begun = begun or bool(sizes)
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if self.outcome(name) is not None or not self._discovered(name):
            self.process.send_signal(signal.SIGCONT)
            return None
        sizes = _sizes(folding)
        return Interruption(name, tuple(sorted(sizes)), sum(sizes.values()))

    def log_size(self) -> int:
        """Bytes of log so far, for ``log_since``."""
        return self.log.stat().st_size if self.log.exists() else 0

    def log_since(self, offset: int) -> str:
        """What was logged after the first ``offset`` bytes."""
        return self.log.read_bytes()[offset:].decode(errors="replace")

    def _discovered(self, name: str) -> bool:
        facts: object = self.ask(lambda reader: reader.facts(kinds=("discovered",), name=name, newest=1))
        return bool(facts)

    def _failed(self, what: str) -> FatalError:
        tail = "\n".join(self.log_since(0).splitlines()[-LOG_LINES:])
        return FatalError(f"the node {what}; the end of {self.log}:\n{tail}", hint=f"the whole log: {self.log}")


def _sizes(folder: Path) -> dict[str, int]:
    """Files of a folder that somebody else may be changing, with their sizes; empty when it is not there."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.stat().st_size for entry in entries}
    except FileNotFoundError:
        return {}


def facts_of(node: NodeProcess, kind: str) -> list[Fact]:
    """All facts of one kind, oldest first."""
    return [fact for _, fact in node.ask(lambda reader: reader.facts(kinds=(kind,)))]
