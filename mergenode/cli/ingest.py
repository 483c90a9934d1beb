"""``mergenode ingest``: ask a node to take a checkpoint now, and wait for what becomes of it."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mergenode.cli.facts import fact_fields, sentence, subject
from mergenode.cli.failures import FAILED, tell
from mergenode.cli.node import LEDGER_NAME, config_option, running_process
from mergenode.cli.output import json_option, print_json, visible
from mergenode.cli.pooled import NotSelected, Pooled
from mergenode.errors import FatalError
from mergenode.ledger.records import Fact, Quarantined, Rejected

if TYPE_CHECKING:
    from mergenode.adapters.store.lock_file import LockOwner
    from mergenode.ports.ledger_store import LedgerReader

SCHEMA = "mergenode.ingest/1"
OUTCOMES = ("folded", "rejected", "duplicate", "quarantined")
_POLL_SECONDS = 0.25

Numbered = tuple[int, Fact]


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@config_option
@click.option("--wait", is_flag=True, help="Wait for the outcome; exit 1 when it is not in the merge.")
@json_option
def ingest(path: Path, config: Path, wait: bool, as_json: bool) -> None:
    """Ask the node to fold the checkpoint PATH now, complete or not by the rules of its registry.

    An earlier rejection does not stand in the way; gates judge it anew. A node that does not run takes it at its next
    start.

    \b
    Examples:
      mergenode ingest /srv/inbox/my-finetune -c node.yaml --wait
      mergenode ingest ./adapter -c node.yaml && mergenode run -c node.yaml --once

    JSON: schema, request (file), running, outcome (the folded, rejected, quarantined or duplicate fact as
    in history, or null; of kind not_selected where a selector left it out: sequence and time of the selection,
    name, content, reason, score, message, hint).
    """
    from mergenode.adapters.registries.requests import submit_request
    from mergenode.settings import load_settings

    settings = load_settings(config)
    state = settings.node.state
    before = newest_sequence(state / LEDGER_NAME)
    request = submit_request(state, path)
    owner = running_process(state)
    running = owner is not None and poke(owner)
    outcome = None
    if wait:
        if not running:
            message = "the node is not running, so there is nothing to wait for; it takes the request at its start"
            raise FatalError(message, hint=f"start it with `mergenode run -c {config}`")
        # A final link stays a link: its name is the contribution's.
        place = Path(os.path.abspath(path))
        outcome = _wait(state, place, before, request, selects=settings.selector.name != "all")
    _report(request, running, outcome, as_json)
    if isinstance(outcome, NotSelected) or (outcome is not None and isinstance(outcome[1], Rejected | Quarantined)):
        raise SystemExit(FAILED)


def newest_sequence(ledger: Path) -> int:
    """The sequence number of the newest fact; 0 for a node that has never run."""
    if not ledger.exists():
        return 0
    from mergenode.adapters.store.sqlite_ledger import open_reader

    reader = open_reader(ledger)
    try:
        facts = reader.facts(newest=1)
    finally:
        reader.close()
    return facts[-1][0] if facts else 0


def poke(owner: LockOwner) -> bool:
    """Send SIGHUP to the node so that it looks now; False when it has just ended.

    On another machine, or under another user, it is left to find the request at its next poll.
    """
    if owner.host != socket.gethostname():
        return True
    try:
        os.kill(owner.pid, signal.SIGHUP)
    except ProcessLookupError:
        return False
    except PermissionError:
        tell(f"process {owner.pid} is another user's and was not woken; it sees the request at its next poll")
    return True


def outcome_of(
    reader: LedgerReader,
    name: str,
    *,
    before: int,
    handled: Callable[[], bool],
    alive: Callable[[], bool],
    pause: Callable[[], None],
    pooled: Callable[[], Numbered | NotSelected | None] | None = None,
) -> Numbered | NotSelected:
    """Poll the ledger until the contribution ``name`` has an outcome.

    Args:
        before: Sequence number of the newest fact when the request was made; later outcomes count. When the
            request was ``handled`` without a new one (it was folded long ago), the last outcome counts.
        alive: Whether the node still runs.
        pause: Called between two looks.
        pooled: Where a selector chooses: ``Pooled.outcome``. A request is handled there when it is in the pool.

    Raises:
        FatalError: the node ended before an outcome, or dropped the request without one.
    """
    while True:
        # Asked before looking: what is true then has left its fact in the ledger already.
        done, running = handled(), alive()
        newest = reader.facts(kinds=OUTCOMES, name=name, newest=1)
        if newest and ((done and pooled is None) or newest[-1][0] > before):
            return newest[-1]
        if done and pooled is not None:
            if (found := pooled()) is not None:
                return found
        elif done:
            raise FatalError(f"the node dropped the request for {name!r} without an outcome",
                             hint="its log says why")  # fmt: skip
        if not running:
            raise FatalError(f"the node stopped before {name!r} had an outcome",
                             hint="it is in the pool; the node goes on with it at its next start" if done
                             else "the request stays and is taken at the next start")  # fmt: skip
        pause()


def _wait(state: Path, path: Path, before: int, request: Path, *, selects: bool) -> Numbered | NotSelected:
    from mergenode.adapters.store.sqlite_ledger import open_reader

    reader = open_reader(state / LEDGER_NAME)
    try:
        return outcome_of(
            reader,
            path.name,
            before=before,
            handled=lambda: not request.exists(),
            alive=lambda: running_process(state) is not None,
            pause=lambda: time.sleep(_POLL_SECONDS),  # another process answers: its ledger can only be asked
            pooled=Pooled(reader, path).outcome if selects else None,
        )
    finally:
        reader.close()


def _report(request: Path, running: bool, outcome: Numbered | NotSelected | None, as_json: bool) -> None:
    if as_json:
        fields = None if outcome is None else _fields(outcome)
        print_json({"schema": SCHEMA, "request": str(request), "running": running, "outcome": fields})
    elif outcome is None:
        asked = "asked the node to take it now"
        click.echo(asked if running else "the node is not running; the request is taken at its next start")
    elif isinstance(outcome, NotSelected):
        tell(f"{outcome.name} was not selected: {outcome.reason}: {outcome.message}", outcome.hint)
    elif isinstance(outcome[1], Rejected | Quarantined):
        tell(f"{subject(outcome[1])} was {outcome[1].kind}: {sentence(outcome[1])}", outcome[1].hint)
    else:
        click.echo(visible(f"{outcome[1].kind} {subject(outcome[1])}: {sentence(outcome[1])}"))


def _fields(outcome: Numbered | NotSelected) -> dict[str, Any]:
    return {"kind": "not_selected", **asdict(outcome)} if isinstance(outcome, NotSelected) else fact_fields(*outcome)
