"""What ``retract`` and ``rollback`` share: ask the node, or do it where none runs, and tell what became of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mergenode.cli.facts import fact_fields
from mergenode.cli.ingest import poke
from mergenode.cli.node import Node, running_process
from mergenode.cli.output import print_json, visible
from mergenode.errors import FatalError, UsageError
from mergenode.ledger.changes import Change
from mergenode.ledger.records import Restated

if TYPE_CHECKING:
    from mergenode.adapters.store.change_requests import FolderChangeRequests
    from mergenode.adapters.store.lock_file import LockOwner
    from mergenode.bootstrap.changes import Forecast
    from mergenode.settings import Settings

SCHEMA = "mergenode.change/1"
_POLL_SECONDS = 0.25


def make_change(node: Node, config: Path, change: Change, *, dry_run: bool, as_json: bool) -> None:
    """Check that the change can be made, make it, tell what it did. What left earlier and is in no version yet is
    published.

    Raises:
        RejectedError: it cannot be made; nothing was changed.
        FatalError: as ``submit_and_wait``, or the version without what left is not there.
    """
    from mergenode.bootstrap.changes import forecast, require_doable

    expected, overdue = forecast(node.settings, node.reader, change, shown=node.shown), _unpublished(node)
    if dry_run or not (expected.leaving or overdue):
        if (expected.leaving or overdue) and _worker(node, config) is None:
            require_doable(node.settings, node.reader)
        _tell(expected, None, as_json, overdue=overdue)
        return
    before = node.reader.facts(newest=1)[-1][0]
    submit_and_wait(node, config, change if expected.leaving else None)
    if _unpublished(node):
        raise FatalError(
            "the merge was changed, but no version shows it yet: the node stopped first",
            hint=f"The version is published at its next start, before anything else: mergenode run -c {config}",
        )
    done = [
        fact_fields(sequence, fact)
        for sequence, fact in node.reader.facts(kinds=("ruled", "retracted", "restated", "published"))
        if sequence > before
    ]
    _tell(expected, done, as_json, overdue=overdue)


def submit_and_wait(node: Node, config: Path, change: Change | None) -> None:
    """Until the change is made and the version without what left is published. None: only the latter is missing.

    Raises:
        UsageError: the node is one of a union and does not run.
        FatalError: the node ended before it was made (the request stays), or refused it; or no node runs and it could
            not be made here (nothing stays).
    """
    from mergenode.adapters.clock import SystemClock
    from mergenode.adapters.store.change_requests import FolderChangeRequests

    settings = node.settings
    requests = FolderChangeRequests(settings.node.state)
    owner = _worker(node, config)
    if owner is None:
        asked = _do_it_here(settings, change)
    else:
        asked = None if change is None else requests.submit(change, SystemClock())
        poke(owner)
        await_answer(
            settings.node.state,
            lambda: (asked is not None and requests.is_pending(asked)) or _unpublished(node),
        )
    if asked is not None:
        who = "command was stopped" if owner is None else "node stopped"
        answered(requests, asked, config, f"the merge was not changed yet: the {who} first")


def _worker(node: Node, config: Path) -> LockOwner | None:
    """The process that is to be asked; None: the command does it. Raises UsageError where it may not."""
    owner = running_process(node.settings.node.state)
    if owner is None and node.in_union:
        raise UsageError(
            "this node is one of a union and does not run: nobody would tell the others",
            hint=f"Start it first: mergenode run -c {config}",
        )
    return owner


def await_answer(state: Path, waits: Callable[[], bool]) -> None:
    """Until nothing ``waits`` any more, or no node works on the state directory."""
    while running_process(state) is not None and waits():
        time.sleep(_POLL_SECONDS)  # another process answers: its files can only be looked at


def answered(requests: FolderChangeRequests, change: Change, config: Path, undone: str) -> None:
    """Raises FatalError: the node refused the request, or it is still there, which is told as ``undone``."""
    refusal = requests.take_refusal(change)
    if refusal is not None:
        raise FatalError(refusal[0], hint=refusal[1])
    if requests.is_pending(change):
        raise FatalError(
            undone,
            hint=f"The request stays and is carried out at its next start: mergenode run -c {config}",
        )


def _unpublished(node: Node) -> bool:
    head = node.shown.head()
    return head.restated and head.published_generation < head.generation


def _do_it_here(settings: Settings, change: Change | None) -> Change | None:
    from mergenode.bootstrap.changes import carry_out
    from mergenode.cli.progress import TerminalProgress

    with TerminalProgress() as progress:
        return carry_out(settings, progress, change)


def _tell(expected: Forecast, done: Sequence[dict[str, Any]] | None, as_json: bool, *, overdue: bool) -> None:
    if as_json:
        print_json(_document(expected, done))
        return
    verb = "would leave" if done is None else "left"
    for member in expected.leaving:
        click.echo(visible(f"{verb} the merge: {member.registry}/{member.name}"))
    if expected.leaving:
        click.echo(f"{'how' if done is None else 'done'}: {_how(expected)}")
    elif overdue:
        still = "holds" if done is None else "held"
        click.echo(f"nothing leaves: it left before, but the newest version still {still} it")
    else:
        click.echo("nothing leaves: the merge is as you want it already")
    for fact in done or ():
        if fact["kind"] == Restated.kind:
            click.echo(f"{fact['count']} contributions in the merge, generation {fact['generation']}")
        if fact["kind"] == "published":
            click.echo(visible(f"published v{fact['version']:06d} at {fact['path']}"))


def _how(expected: Forecast) -> str:
    from mergenode.ledger.restatement import Subtract

    way = expected.way
    if way is None:
        return "the nodes that hold it take it out, as soon as they hear of it"
    if isinstance(way, Subtract):
        return f"subtracted, {way.folds} contributions read once more; what stays is exact up to rounding"
    start = f"the snapshot of generation {way.start.generation}" if way.start.generation else "the base"
    return f"replayed from {start}, {way.folds} contributions folded again; as if it had never been there, bit for bit"


def _document(expected: Forecast, done: Sequence[dict[str, Any]] | None) -> dict[str, Any]:
    from mergenode.ledger.restatement import Replay

    way = expected.way
    replay = isinstance(way, Replay)
    return {
        "schema": SCHEMA,
        "leaving": [
            {"registry": member.registry, "name": member.name, "content": member.content} for member in expected.leaving
        ],
        "how": None if way is None else ("replayed" if replay else "subtracted"),
        "reads": 0 if way is None else way.folds,
        "from_generation": way.start.generation if isinstance(way, Replay) else None,
        "facts": None if done is None else list(done),
    }
