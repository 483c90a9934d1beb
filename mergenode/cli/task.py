"""``mergenode task``: try the task plug-in of a node before the node needs it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mergenode.cli.failures import FAILED
from mergenode.cli.lazy import SuggestingGroup
from mergenode.cli.node import config_option
from mergenode.cli.output import console, json_option, print_json, table, visible

if TYPE_CHECKING:
    from mergenode.bootstrap.task_check import Tried, Unlocked


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
    from mergenode.bootstrap.task_check import try_task, unlocked
    from mergenode.settings import load_settings

    settings = load_settings(config)
    tried = list(try_task(settings.task, settings.base))
    if as_json:
        print_json(_document(settings.task.entrypoint, tried, unlocked(tried)))
    else:
        _show(tried, unlocked(tried))
    if any(one.works is False for one in tried):
        ctx.exit(FAILED)


def _document(entrypoint: str | None, tried: Sequence[Tried], features: Sequence[Unlocked]) -> dict[str, Any]:
    methods = {
        one.method: {"works": one.works, "said": one.said, "hint": one.hint, "unlocks": list(one.unlocks)}
        for one in tried
    }
    unlocks = {
        one.feature: {
            "unlocked": one.ready,
            "needs": list(one.needs),
            "missing": list(one.missing),
            "failing": list(one.failing),
        }
        for one in features
    }
    return {"entrypoint": entrypoint, "methods": methods, "features": unlocks}


def _show(tried: Sequence[Tried], features: Sequence[Unlocked]) -> None:
    rows = table("method", "works", "what came of it")
    for one in tried:
        rows.add_row(one.method, {True: "yes", False: "no", None: "-"}[one.works], visible(one.said))
    console().print(rows)
    click.echo()
    rows = table("feature", "unlocked", "what is missing")
    for feature in features:
        lacks = [f"{name}()" for name in feature.missing] + [f"{name}() that works" for name in feature.failing]
        rows.add_row(feature.feature, "yes" if feature.ready else "no", ", ".join(lacks))
    console().print(rows)
    for one in tried:
        if one.hint:
            click.echo(f"{one.method}: {visible(one.hint)}")
