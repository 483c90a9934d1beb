"""One process of a plug-in: started, asked, bounded in time and memory, and ended with all that it started."""

from __future__ import annotations

import os
import secrets
import select
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import IO, Any

import mergenode
from mergenode.adapters.tasks.lines import BrokenLine, LineReader, encode
from mergenode.adapters.tasks.started import MARK, end_marked
from mergenode.ports.engine import Stopped
from mergenode.ports.task import TaskOptions

_TAIL_BYTES = 4096
_START_SECONDS = 300.0
_SETTLE_POLLS, _SETTLE_SECONDS = 100, 0.02
_POLL_SECONDS = 0.5
"""How often a wait for the plug-in looks whether the node is to stop."""


class Silent(Exception):
    """The process did not answer in time."""


class PluginProcess:
    """Runs ``mergenode.adapters.tasks.child`` with the options of a plug-in. Close it: nothing of it may remain."""

    def __init__(self, options: TaskOptions) -> None:
        to_child, self._requests = os.pipe()
        answers, from_child = os.pipe()
        self._answers = answers
        self._started = False
        self._lines = LineReader(answers)
        self._mark = secrets.token_hex(16)
        arguments = [str(to_child), str(from_child), str(options.memory_limit), options.entrypoint or ""]
        try:
            self._child = subprocess.Popen(  # noqa: S603 - our own module, by a list of arguments
                [sys.executable, "-P", "-m", "mergenode.adapters.tasks.child", *arguments],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                pass_fds=(to_child, from_child), start_new_session=True, env=_environment(options.path, self._mark),
            )  # fmt: skip
        except OSError:
            os.close(self._requests)
            os.close(answers)
            raise
        finally:
            os.close(to_child)
            os.close(from_child)
        assert self._child.stdout is not None
        self._tail = _Tail(self._child.stdout)

    def ask(
        self, request: Mapping[str, Any], seconds: float, progress: Callable[[int, int], None], stop: Callable[[], bool]
    ) -> dict[str, Any]:
        """Send one request and wait for its answer; ``progress`` hears (done, total) on the way.

        Raises:
            Silent: no answer within ``seconds``.
            EOFError: the process ended instead of answering.
            BrokenLine: it answered with something else.
            Stopped: ``stop`` said so.
        """
        try:
            os.write(self._requests, encode(request))
        except BrokenPipeError as error:
            raise EOFError from error
        if not self._started:
            # Importing torch is not the plug-in's time, and a busy machine may take long for it.
            self._await(_START_SECONDS, progress, stop)
            self._started = True
        return self._await(seconds, progress, stop)

    def _await(self, seconds: float, progress: Callable[[int, int], None], stop: Callable[[], bool]) -> dict[str, Any]:
        deadline = monotonic() + seconds
        while (left := deadline - monotonic()) > 0:
            if stop():
                raise Stopped("while waiting for the task plug-in")
            over = self._ended()
            message = self._lines.read(0.0 if over else min(left, _POLL_SECONDS))
            if message is None:
                if over:
                    raise EOFError  # a process that it forked still holds the pipe open
                continue
            if "progress" not in message:
                return message
            match message["progress"]:
                case [int(done), int(total)]:
                    progress(done, total)
                case _:
                    raise BrokenLine("progress that is none")
        raise Silent

    def said(self) -> str:
        """The end of what the plug-in printed."""
        return self._tail.text()

    def end(self) -> int:
        """End the process and every process that it started; idempotent. Returns its exit status, -9 when killed."""
        if self._child.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)  # before it is waited for: then the number is still its own
            end_marked(self._mark)
            self._child.wait()
            os.close(self._requests)
            os.close(self._answers)
            self._tail.finish()
        return self._child.returncode

    def settle(self) -> None:
        """Give a process that closed its pipe a moment to end by itself, so that its exit status tells why."""
        for _ in range(_SETTLE_POLLS):
            if self._ended():
                return
            select.select([], [], [], _SETTLE_SECONDS)

    def _ended(self) -> bool:
        return os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


class _Tail:
    """Keeps the last bytes of a stream and throws the rest away, so that printing fills neither memory nor disk."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._kept: deque[bytes] = deque(maxlen=2)
        self._thread = threading.Thread(target=self._drain, name="plug-in output", daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        fd = self._stream.fileno()
        while piece := os.read(fd, _TAIL_BYTES):
            self._kept.append(piece)

    def text(self) -> str:
        return b"".join(self._kept)[-_TAIL_BYTES:].decode("utf-8", "replace").strip()

    def finish(self) -> None:
        """Wait for the end of the stream: everybody who could write to it was killed before."""
        self._thread.join(timeout=5.0)
        if not self._thread.is_alive():
            self._stream.close()


def _environment(path: Path | None, mark: str) -> dict[str, str]:
    """Ours, with the plug-in's directory and this package where Python looks first, and the mark of the process."""
    places = [str(path)] if path is not None else []
    places.append(str(Path(mergenode.__file__).parents[1]))
    places += [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places), "PYTHONUNBUFFERED": "1", MARK: mark}
