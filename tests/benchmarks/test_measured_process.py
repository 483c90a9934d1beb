"""What is measured of a process: memory it touched, time it computed, its children, its exit."""

import os
import sys
from pathlib import Path

from benchmarks.peers.measured_process import Usage, measure

_HOLD = "block = b'x' * (100 << 20); sum(range(3_000_000))"


def run(tmp_path: Path, code: str) -> Usage:
    command = [sys.executable, "-c", code]
    return measure(command, environment=dict(os.environ), log=tmp_path / "log", cwd=tmp_path)


def test_touched_memory_and_computing_are_counted(tmp_path: Path) -> None:
    idle, busy = run(tmp_path, "pass"), run(tmp_path, _HOLD)
    assert 95 < busy.peak_rss_mib - idle.peak_rss_mib < 130
    assert busy.peak_anon_mib > 100
    assert busy.peak_anon_mib <= busy.peak_rss_mib
    assert busy.cpu_seconds > idle.cpu_seconds


def test_children_count(tmp_path: Path) -> None:
    hold = "import subprocess, sys; block = b'y' * (50 << 20); "
    both = run(tmp_path, f"{hold} subprocess.run([sys.executable, '-c', {_HOLD!r}])")
    assert both.peak_anon_mib > 150
    assert both.peak_rss_mib > 150


def test_exit_code_and_output_are_kept(tmp_path: Path) -> None:
    assert run(tmp_path, "print('why'); raise SystemExit(3)").exit_code == 3
    assert (tmp_path / "log").read_text() == "why\n"
    assert run(tmp_path, "import os; os.kill(os.getpid(), 9)").exit_code == -9


def test_file_pages_are_resident_but_not_anonymous(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(1 << 20) * 64)
    code = (
        "import mmap; f = open('file', 'rb'); m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ);"
        "sum(m[i] for i in range(0, len(m), 4096)); sum(range(3_000_000))"
    )
    mapped, idle = run(tmp_path, code), run(tmp_path, "sum(range(3_000_000))")
    assert mapped.peak_rss_mib - idle.peak_rss_mib > 55
    assert mapped.peak_anon_mib - idle.peak_anon_mib < 10
