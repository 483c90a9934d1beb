"""``mergenode task``: try the task plug-in of a node before the node needs it."""

from __future__ import annotations

from pathlib import Path

import click

from mergenode.cli.failures import FAILED
from mergenode.cli.lazy import SuggestingGroup
from mergenode.cli.node import config_option
from mergenode.cli.output import console, json_option, print_json, table, visible


@click.group(cls=SuggestingGroup)
def task() -> None:
    """Your own code that knows the model and its data: see docs/tasks.md.

    \b
    Example:
      mergenode task check -c node.yaml
    """


@task.command()
@config_option
@json_option
@click.pass_context
def check(ctx: click.Context, config: Path, as_json: bool) -> None:
    """Call every method of the plug-in once on the base, and say which features it unlocks.

    The class is run as a node would run it: in a process of its own, within task.memory_limit and task.timeout.
    Calibration batches are cut to a few examples; evaluate and train decide for themselves how long they take.
    Exits 1 when a method fails.

    \b
    Example:
      mergenode task check -c node.yaml
    """
    from mergenode.bootstrap.task_check import try_task
    from mergenode.settings import load_settings

    settings = load_settings(config)
    tried = list(try_task(settings.task, settings.base))
    if as_json:
        methods = {
            one.method: {"works": one.works, "said": one.said, "hint": one.hint, "unlocks": list(one.unlocks)}
            for one in tried
        }
        print_json({"entrypoint": settings.task.entrypoint, "methods": methods})
    else:
        rows = table("method", "works", "what came of it", "unlocks")
        for one in tried:
            works = {True: "yes", False: "no", None: "-"}[one.works]
            rows.add_row(one.method, works, visible(one.said), ", ".join(one.unlocks))
        console().print(rows)
        for one in tried:
            if one.hint:
                click.echo(f"{one.method}: {visible(one.hint)}")
    if any(one.works is False for one in tried):
        ctx.exit(FAILED)
