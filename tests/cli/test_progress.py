"""The progress bar: what it shows, where it is silent, what it escapes."""

from __future__ import annotations

import pytest

from mergenode.cli.progress import TerminalProgress
from mergenode.ports.observer import Observer, Progress


@pytest.fixture(autouse=True)
def _terminal_like(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")


def half(subject: str = "m1", waits: str = "") -> Progress:
    return Progress("fold", subject, 3, 8, 1 << 20, 2 << 20, waits)


def test_it_is_an_observer() -> None:
    observer: Observer = TerminalProgress(False)
    observer.heartbeat()
    observer.sizes(statistics_bytes=1, published_bytes=1, disk_free_bytes=1)


def test_tensors_bytes_and_what_it_waits_for_are_shown(capsys) -> None:
    with TerminalProgress(True) as bars:
        bars.progress(half(waits="the disk"))
    out, err = capsys.readouterr()
    assert out == ""
    for words in ("fold m1", "3/8 tensors", "1.0/2.0 MiB", "waits for the disk"):
        assert words in err


def test_unknown_totals_are_no_error(capsys) -> None:
    with TerminalProgress(True) as bars:
        bars.progress(Progress("verify", "", 0, 0, 0, 0))
    assert "verify" in capsys.readouterr().err


def test_without_a_terminal_it_is_silent(capsys, monkeypatch) -> None:
    monkeypatch.delenv("TTY_COMPATIBLE")
    with TerminalProgress() as bars:
        bars.progress(half())
        bars.message("info", "not for people")
    assert capsys.readouterr() == ("", "")


def test_warnings_are_written_even_when_bars_are_not(capsys) -> None:
    with TerminalProgress(False) as bars:
        bars.message("warning", "names \x1b[31m differ", file="a\nb")
        bars.message("warning", "the files are gone", hint="Bring\nthem back.", version=3)
        bars.retrying("m1", "disk_full", "no space", 4.0, "Make room.")
        bars.listing_failed("inbox", "gone")
    assert capsys.readouterr().err.splitlines() == [
        "warning: names \\x1b[31m differ file=a\\nb",
        "warning: the files are gone version=3",
        "hint: Bring\\nthem back.",
        "warning: m1: no space; trying again in 4 s",
        "hint: Make room.",
        "warning: registry inbox: gone",
    ]


def test_bars_do_not_accumulate(capsys) -> None:
    with TerminalProgress(True) as bars:
        for number in range(100):
            bars.progress(half(f"m{number}\x1b]0;x"))
        assert len(bars._tasks) == 1 and len(bars._bars.tasks) == 1
    assert "\x1b]0;" not in capsys.readouterr().err
