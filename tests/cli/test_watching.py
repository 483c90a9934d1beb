"""``status --watch``: what it shows of a node that works, of one that does not answer, and how it ends."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mergenode.adapters.store.lock import StateLock
from mergenode.bootstrap.activities import API, FILES, Seen, look
from mergenode.cli.activity_bars import BarView
from mergenode.cli.watching import PATIENCE, JsonView, LineView, View, follow
from mergenode.errors import FatalError
from mergenode.ports.activity import Activity
from mergenode.settings import load_settings
from tests.cli.conftest import HOSTILE

STATUS = {"head": {"version": 7, "count": 3}, "pending": 2, "health": {"draining": False}}
RUNNING = Seen(node="n", running=True, pid=12, activities=(), source=API, address="http://h:1/", status=STATUS)
GONE = Seen(node="n", running=False, pid=None, activities=(), source=FILES, address="http://h:1/")
SILENT = replace(RUNNING, source=FILES, status=None, problem="http://h:1/ does not answer: refused")


def fold(done: int, **fields: Any) -> Seen:
    activity = Activity(kind="fold", subject="m", bytes_done=done, bytes_total=100, elapsed_seconds=1.0, **fields)
    return replace(RUNNING, activities=[activity.document()])


def following(view: View, *looks: Seen) -> None:
    """Look so often; after the last one the user has seen enough."""
    answers: Iterator[Seen] = iter(looks)

    def ask() -> Seen:
        try:
            return next(answers)
        except StopIteration:
            raise KeyboardInterrupt from None

    follow(ask, view, lambda: None)


def test_lines_say_what_is_new_and_end_with_the_node(capsys: pytest.CaptureFixture[str]) -> None:
    following(LineView(), RUNNING, fold(10), fold(10), fold(50, rate=10.0, remaining_seconds=5.0), RUNNING, GONE)
    assert capsys.readouterr().out.splitlines() == [
        "n runs as process 12, v000007, 3 contributions, 2 wait, nothing under way",
        "n runs as process 12, v000007, 3 contributions, 2 wait",
        "fold of m: 10 %, 10 B of 100 B, 1.00 s so far",
        "fold of m: 50 %, 50 B of 100 B, 10 B/s, 5 s left",
        "n runs as process 12, v000007, 3 contributions, 2 wait, nothing under way",
        "node n has stopped",
        "n does not run; nothing is begun",
    ]


def test_a_node_that_does_not_run_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    begun = Activity(kind="fold", subject=HOSTILE, bytes_done=5, bytes_total=10, started="2026-01-02T03:04:05Z")
    following(LineView(), replace(GONE, activities=[begun.document()]))
    first, second = capsys.readouterr().out.splitlines()
    assert first == "n does not run; begun, to be taken up at its next start:"
    assert second.endswith("50 %, 5 B of 10 B, begun 2026-01-02T03:04:05Z") and second.isprintable()


def test_json_is_one_document_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    following(JsonView(), fold(10), GONE)
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["schema"], first["source"], first["version"]) == ("mergenode.activities/1", "api", 7)
    assert first["activities"][0]["bytes_done"] == 10 and not second["running"]


def test_bars_are_drawn_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=160, color_system=None)
    busy = fold(40, rate=2.0 * (1 << 20), remaining_seconds=200.0)
    following(BarView(console), busy, replace(GONE, activities=[Activity(kind="fold", subject=HOSTILE).document()]))
    text = console.file.getvalue()  # type: ignore[attr-defined]  # it is a StringIO
    assert "v000007" in text and "40 %" in text and "2.0 MiB/s" in text and "3 min 20 s left" in text
    assert "node n has stopped" in text and "\x1b[31m" not in text and "\u202e" not in text


def test_a_node_that_starts_is_given_time_and_one_that_stays_silent_is_named() -> None:
    following(LineView(), *[SILENT] * PATIENCE, RUNNING, *[SILENT] * PATIENCE)
    with pytest.raises(
        FatalError, match=r"node n runs as process 12, but http://h:1/ does not answer: refused"
    ) as told:
        following(LineView(), *[SILENT] * (PATIENCE + 1))
    assert "http.listen" in told.value.hint


def test_without_a_port_files_are_watched_as_long_as_one_likes() -> None:
    following(LineView(), *[replace(SILENT, address=None)] * (3 * PATIENCE))


def settings_of(config: Path, listen: str | None) -> Any:
    config.write_text(config.read_text() + f"http: {{listen: {listen or 'null'}}}\n")
    return load_settings(config)


@pytest.mark.parametrize(
    ("listen", "problem"),
    [("127.0.0.1:0", "takes any free port"), (None, "no HTTP port"), ("127.0.0.1:1", "http://127.0.0.1:1/")],
)
def test_a_node_that_cannot_be_asked_is_seen_by_its_files(config: Path, listen: str | None, problem: str) -> None:
    settings = settings_of(config, listen)
    assert look(settings).running is False
    with StateLock(settings.node.state, node="node-t"):
        seen = look(settings)
    assert (seen.running, seen.source, seen.status) == (True, FILES, None) and problem in seen.problem


def test_a_node_that_never_ran(run: Callable[..., Any], config: Path) -> None:
    done = run("status", "-c", config, "--watch")
    assert done.exit_code == 1 and done.stdout == "" and "has never run" in done.stderr


def test_the_command_tells_of_a_node_at_rest(run: Callable[..., Any], config: Path, history: object) -> None:
    done = run("status", "-c", config, "--watch")
    assert (done.exit_code, done.stdout) == (0, "node-t does not run; nothing is begun\n")
    assert json.loads(run("status", "-c", config, "--watch", "--json").stdout)["running"] is False
    document = json.loads(run("status", "-c", config, "--json").stdout)
    assert (document["activities"], document["activities_source"]) == ([], "files")
