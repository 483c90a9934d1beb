"""``mergenode sidecar``: Fisher and Gram matrices beside a checkpoint, from the data that only its owner has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mergenode.cli.output import console, json_option, print_json, table, visible
from mergenode.errors import UsageError

if TYPE_CHECKING:
    from mergenode.bootstrap.side_cars import SideCarResult


@click.command(
    epilog="\b\nExample:\n  mergenode sidecar ./my-finetune --task my_task:Task --gram --batches 32\n"
    "  mergenode commit ./my-finetune"
)
@click.argument("checkpoint", metavar="MODEL", type=click.Path(path_type=Path))
@click.option("--task", required=True, metavar="MODULE:CLASS", help="The task plug-in, see docs/tasks.md.")
@click.option(
    "--task-path", type=click.Path(path_type=Path), default=".", show_default=True, help="Where its module is."
)
@click.option("--fisher", is_flag=True, help="Write the diagonal Fisher (method fisher).")
@click.option("--gram", is_flag=True, help="Write the Grams of linear layers (method regmean).")
@click.option("--batches", type=click.IntRange(min=1), help="At most so many calibration batches; default: all.")
@click.option(
    "--base", type=click.Path(path_type=Path), help="The base of an adapter; it is added for the time needed."
)
@click.option("--memory-limit", default="4GiB", show_default=True, help="Most private memory of the plug-in's process.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), default=3600.0, show_default=True,
              help="Seconds that each file may take.")  # fmt: skip
@click.option("--progress/--no-progress", default=None, help="Draw a progress bar (default: on a terminal).")
@json_option
def sidecar(checkpoint: Path, as_json: bool, progress: bool | None, **given: Any) -> None:
    """Write side-cars next to MODEL: what its data says about its weights, for the methods fisher and regmean.

    Without --fisher and --gram: all that the plug-in can make. A Gram tells second-order statistics of the data to
    whoever reads it; docs/side-cars.md says what that means. Commit the checkpoint afterwards.
    """
    for path in (checkpoint, given["base"]):
        if path is not None and not path.exists():
            raise UsageError(f"{path}: no such checkpoint", hint="Name a checkpoint directory or a .safetensors file.")
    from mergenode.bootstrap.side_cars import SideCarRequest, make_side_cars
    from mergenode.cli.batch_progress import BatchProgress
    from mergenode.cli.resources import memory_limit
    from mergenode.ports.task import TaskProgram

    program = TaskProgram(
        entrypoint=given["task"],
        path=given["task_path"].absolute(),
        memory_limit=memory_limit(given["memory_limit"]),
        timeout=given["timeout"],
    )
    request = SideCarRequest(
        checkpoint=checkpoint,
        task=program,
        kinds=[kind for kind in ("fisher", "gram") if given[kind]],
        batches=given["batches"],
        base=given["base"],
    )
    with BatchProgress(progress, checkpoint.name) as bar:
        result = make_side_cars(request, bar.told)
    _print(result, as_json)


def _print(result: SideCarResult, as_json: bool) -> None:
    if as_json:
        written = [{"kind": made.kind, "path": str(made.path), **made.counts} for made in result.made]
        print_json({"side_cars": written, "commit_again": result.stale_marker is not None})
        return
    rows = table("side-car", "tensors", "made from", right=("tensors",))
    for made in result.made:
        counts = {name: count for name, count in made.counts.items() if name != "tensors"}
        what = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        rows.add_row(visible(str(made.path)), f"{made.counts['tensors']:,}", what)
    console().print(rows)
    if result.stale_marker is not None:
        click.echo(f"{visible(str(result.stale_marker))} does not promise them: run `mergenode commit` again")
