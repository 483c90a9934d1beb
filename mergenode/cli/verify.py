"""``mergenode verify``: is everything still what it was recorded to be?"""

from __future__ import annotations

from pathlib import Path

import click

from mergenode.cli.failures import FAILED
from mergenode.cli.node import config_option
from mergenode.cli.output import json_option, print_json, visible
from mergenode.settings import load_settings


@click.command(epilog="\b\nExample:\n  mergenode verify -c node.yaml --replay")
@config_option
@click.option("--replay", is_flag=True, help="Also fold every contribution again from the base and compare.")
@json_option
def verify(config: Path, replay: bool, as_json: bool) -> None:
    """Check the ledger's chain, the statistics and every published tensor against their digests.

    Exit 0 when all is well, 1 with one line per problem. JSON keys: ok, checked, problems.
    """
    settings = load_settings(config)
    from mergenode.bootstrap.verification import verify as check
    from mergenode.cli.progress import TerminalProgress

    with TerminalProgress() as progress:
        found = check(settings, progress, replay=replay)
    if as_json:
        print_json({"ok": not found.problems, "checked": found.checked, "problems": found.problems})
    else:
        for line in found.checked:
            click.echo(f"checked  {visible(line)}")
        for line in found.problems:
            click.echo(f"PROBLEM  {visible(line)}")
        click.echo("all is well" if not found.problems else f"{len(found.problems)} problems")
    if found.problems:
        raise SystemExit(FAILED)
