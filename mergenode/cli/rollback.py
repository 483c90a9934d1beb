"""``mergenode rollback``: take out everything that came after a version."""

from __future__ import annotations

import re
from pathlib import Path

import click

from mergenode.cli.node import config_option, open_node
from mergenode.cli.output import json_option
from mergenode.errors import UsageError
from mergenode.ledger.changes import Change
from mergenode.ledger.records import Published

_VERSION = re.compile(r"v?0*([0-9]{1,9})")


@click.command()
@click.argument("version", metavar="VERSION")
@config_option
@click.option("--why", default="", help="A reason, kept in the ledger and shown by history.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done, and how.")
@json_option
def rollback(version: str, config: Path, why: str, dry_run: bool, as_json: bool) -> None:
    """Take the merge back to what VERSION (7 or v000007) held, and publish that as a new version.

    What was folded after it is retracted: it does not come back by itself, `mergenode ingest PATH` takes it in again.
    A rollback never brings back what was retracted since. The files of VERSION need not be on disk any more; with a
    snapshot of its generation nothing is folded again.

    \b
    Examples:
      mergenode rollback 7 -c node.yaml --why "scores fell"
      mergenode rollback v000007 -c node.yaml --dry-run --json

    JSON: as of `mergenode retract`.
    """
    from mergenode.cli.changes import make_change

    match = _VERSION.fullmatch(version)
    if match is None:
        raise UsageError(f"{version!r} is not a version", hint="Give a number or a name like v000007.")
    with open_node(config) as node:
        published = (fact for _, fact in node.shown.facts(kinds=("published",)))
        if not any(isinstance(fact, Published) and fact.version == int(match[1]) for fact in published):
            raise UsageError(
                f"there is no version {int(match[1])}", hint="`mergenode history --kind published` lists the versions."
            )
        change = Change("", rollback_to=int(match[1]), why=why)
        make_change(node, config, change, dry_run=dry_run, as_json=as_json)
