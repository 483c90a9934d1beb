"""Processes of a plug-in are found wherever they went, and nobody else's."""

from __future__ import annotations

import os
import subprocess

from mergenode.adapters.tasks.started import MARK, end_marked


def started(mark: str) -> subprocess.Popen[bytes]:
    """A process that left our group; its shell started another one."""
    return subprocess.Popen(["sh", "-c", "sleep 3600; true"], env={**os.environ, MARK: mark}, start_new_session=True)


def test_those_with_the_mark_are_ended() -> None:
    ours, other = started("ours"), started("ours, but for the end")
    try:
        end_marked("ours")
        assert ours.wait(timeout=60) == -9
        assert other.poll() is None
    finally:
        end_marked("ours, but for the end")
    assert other.wait(timeout=60) == -9


def test_nothing_to_end_is_no_error() -> None:
    end_marked("nobody has this")
