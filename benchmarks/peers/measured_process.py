"""One command as its own process, measured as a whole from start to exit (Linux)."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_SAMPLE_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Usage:
    """What one run of a command used, children included.

    ``cpu_seconds`` is user plus system time. ``peak_rss_mib`` is the kernel's high-water mark of the
    largest process or the largest sampled sum over the process tree, whichever is more; it counts mapped file
    pages. ``peak_anon_mib`` is the largest sampled sum of anonymous memory, which cannot be dropped.
    """

    cpu_seconds: float
    wall_seconds: float
    peak_rss_mib: float
    peak_anon_mib: float
    exit_code: int


def measure(command: Sequence[str], *, environment: Mapping[str, str], log: Path, cwd: Path) -> Usage:
    """Run ``command``, its output into ``log``, and say what it used. Ends the process when interrupted."""
    with open(log, "wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=cwd,
        )
        sampler = _MemorySampler(process.pid)
        try:
            sampler.start()
            # Leave the process unreaped until the sampler has stopped: its number cannot be given to another.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            wall = time.perf_counter() - started
        except BaseException:
            process.kill()
            raise
        finally:
            sampler.stop()
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    return Usage(
        cpu_seconds=used.ru_utime + used.ru_stime,
        wall_seconds=wall,
        # Not ru_maxrss: that starts at the size of the process that started this one.
        peak_rss_mib=sampler.peak_rss_kib / 1024,
        peak_anon_mib=sampler.peak_anon_kib / 1024,
        exit_code=process.returncode,
    )


class _MemorySampler(threading.Thread):
    """Reads the memory of a process and its descendants a hundred times a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(name="memory-sampler", daemon=True)
        self.peak_rss_kib = 0
        self.peak_anon_kib = 0
        self._pid = pid
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.is_set():
            rss = anon = 0
            for pid in _tree(self._pid):
                status = _status(pid)
                rss += status.get("VmRSS", 0)
                self.peak_rss_kib = max(self.peak_rss_kib, status.get("VmHWM", 0))
                anon += status.get("RssAnon", 0)
            self.peak_rss_kib = max(self.peak_rss_kib, rss)
            self.peak_anon_kib = max(self.peak_anon_kib, anon)
            self._stopped.wait(_SAMPLE_SECONDS)

    def stop(self) -> None:
        self._stopped.set()
        if self.ident is not None:
            self.join()


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        tasks = [task / "children" for task in Path(f"/proc/{pid}/task").iterdir()]
        children = [int(child) for task in tasks for child in task.read_text().split()]
    except OSError:  # ended meanwhile
        return
    for child in children:
        yield from _tree(child)


def _status(pid: int) -> dict[str, int]:
    """The memory lines of /proc/PID/status, KiB; empty for a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {key: int(value.split()[0]) for key, _, value in (x.partition(":") for x in lines) if "kB" in value}
