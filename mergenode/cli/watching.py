"""``mergenode status --watch``: the long work of a node, as it goes on."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import click

from mergenode.cli.output import visible
from mergenode.errors import FatalError
from mergenode.ports.activity_text import sentence

if TYPE_CHECKING:
    from mergenode.bootstrap.activities import Seen

SCHEMA = "mergenode.activities/1"
PATIENCE = 10
"""Looks in a row at a node that runs and does not answer, before giving up: it opens its port soon after its start."""

Look = Callable[[], "Seen"]


class View(Protocol):
    """Shows one look after the other; a context manager."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def show(self, seen: Seen) -> None: ...
    def say(self, text: str) -> None:
        """One line that stays."""
        ...


def watch(config: Path, *, interval: float, as_json: bool) -> None:
    """Show what the node does until it ends or the user has seen enough (Ctrl-C): both are a good end.

    Raises:
        UsageError: the settings are wrong.
        FatalError: the node has never run, or it runs and its address does not answer.
    """
    from mergenode.bootstrap.activities import look
    from mergenode.settings import load_settings

    settings = load_settings(config)
    if not settings.node.state.is_dir():
        raise FatalError(
            f"{settings.node.state}: no state directory, this node has never run",
            hint=f"start it with `mergenode run -c {config}`",
        )
    nothing = threading.Event()
    follow(lambda: look(settings), view_for(as_json), lambda: nothing.wait(interval))


def view_for(as_json: bool) -> View:
    """Documents, or bars on a terminal, or lines."""
    if as_json:
        return JsonView()
    from rich.console import Console

    if Console().is_terminal:
        from mergenode.cli.activity_bars import BarView

        return BarView()
    return LineView()


def follow(look: Look, view: View, pause: Callable[[], object]) -> None:
    """See ``watch``. ``pause``: between two looks."""
    unheard = 0
    seen_running = False
    try:
        with view:
            while True:
                seen = look()
                unheard = unheard + 1 if seen.running and seen.source != "api" and seen.address else 0
                if unheard > PATIENCE:
                    raise FatalError(
                        f"node {seen.node} runs as process {seen.pid}, but {seen.problem}",
                        hint="Is http.listen in this settings file the address that the node was started with?",
                    )
                if seen_running and not seen.running:
                    view.say(f"node {seen.node} has stopped")
                view.show(seen)
                if not seen.running:
                    return
                seen_running = True
                pause()
    except KeyboardInterrupt:
        return


def document(seen: Seen) -> dict[str, Any]:
    """One look as JSON."""
    status = seen.status or {}
    return {
        "schema": SCHEMA,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "node": seen.node,
        "running": seen.running,
        "pid": seen.pid,
        "source": seen.source,
        "address": seen.address,
        "problem": seen.problem or None,
        "version": status["head"]["version"] if status else None,
        "contributions": status["head"]["count"] if status else None,
        "pending": status["pending"] if status else None,
        "activities": list(seen.activities),
    }


def headline(seen: Seen) -> str:
    """The node in one line."""
    if seen.status is not None:
        head = seen.status["head"]
        version = f"v{head['version']:06d}" if head["version"] else "nothing published yet"
        state = "stopping" if seen.status["health"]["draining"] else f"runs as process {seen.pid}"
        return f"{seen.node} {state}, {version}, {head['count']} contributions, {seen.status['pending']} wait"
    if seen.running:
        return f"{seen.node} runs as process {seen.pid}; seen by its files, without rates: {seen.problem}"
    begun = "begun, to be taken up at its next start:" if seen.activities else "nothing is begun"
    return f"{seen.node} does not run; {begun}"


class _Plain:
    """Lines on standard output need no preparation."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class JsonView(_Plain):
    """One document in one line for every look, and nothing else."""

    def show(self, seen: Seen) -> None:
        click.echo(json.dumps(document(seen), allow_nan=False))

    def say(self, text: str) -> None:
        """The last document says it."""


class LineView(_Plain):
    """One line for every piece of work at every look; what has not changed is not said again."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def show(self, seen: Seen) -> None:
        lines = {"": headline(seen)} | {_key(each): sentence(each) for each in seen.activities}
        if len(lines) == 1 and seen.running:
            lines[""] += ", nothing under way"
        for key, line in lines.items():
            if self._said.get(key) != line:
                self.say(line)
        self._said = lines

    def say(self, text: str) -> None:
        click.echo(visible(text))


def _key(activity: Mapping[str, Any]) -> str:
    return f"{activity['kind']} {activity['subject']}"
