"""The processes that a plug-in started, found by a mark in their environment, wherever they went.

A process group is not enough: what calls ``setsid``, as every daemon does, leaves it. The environment that a process
was started with is inherited, and Linux shows it in /proc.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MARK = "MERGENODE_TASK"
"""Environment variable; its value is another one for every process of a plug-in."""

_ROUNDS, _PAUSE_SECONDS = 100, 0.02


def end_marked(mark: str) -> None:
    """Kill every process but this one that was started with this value of ``MARK``, until none is left.

    Elsewhere than on Linux, and of other users, none is found. Bounded in time: what cannot be killed stays.
    """
    for _ in range(_ROUNDS):
        found = list(_marked(mark))
        if not found:
            return
        for pid in found:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        select.select([], [], [], _PAUSE_SECONDS)  # a process that was killed shows for a moment


def _marked(mark: str) -> Iterator[int]:
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # of somebody else, or gone meanwhile
            pid = int(entry.parent.name)
            if pid != os.getpid() and wanted in entry.read_bytes().split(b"\0"):
                yield pid
