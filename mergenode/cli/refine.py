"""``mergenode refine``: a merge trained to agree with its contributions, without data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mergenode.cli.output import console, field_table, json_option, print_json, visible
from mergenode.errors import UsageError

if TYPE_CHECKING:
    from mergenode.bootstrap.refining import RefineResult


@click.command(
    epilog="\b\nExample:\n  mergenode refine ./merged ./a ./b --base ./base --task my_task:Task --output ./refined\n"
    "  mergenode refine ./merged ./c --base ./base --task my_task:Task --output ./refined-2 --sums ./sums.safetensors"
)
@click.argument("merged", metavar="MERGED", type=click.Path(path_type=Path))
@click.argument("models", metavar="[MODEL]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--base", required=True, type=click.Path(path_type=Path), help="The checkpoint they were tuned from.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="New directory for the result.")
@click.option("--task", required=True, metavar="MODULE:CLASS", help="The task plug-in, see docs/refine.md.")
@click.option(
    "--task-path", type=click.Path(path_type=Path), default=".", show_default=True, help="Where its module is."
)
@click.option("--sums", type=click.Path(path_type=Path), help="File that keeps what models added.")
@click.option(
    "--without",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="MODEL",
    help="Leaves --sums; repeatable.",
)
@click.option("--weight", "weights", multiple=True, type=float, help="One per MODEL, in order; default 1.")
@click.option("--epochs", type=click.IntRange(min=1), default=1, show_default=True, help="Passes over the probes.")
@click.option("--rate", type=float, default=1e-4, show_default=True, help="Learning rate at its highest.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the order of the batches.")
@click.option("--memory-limit", default="4GiB", show_default=True, help="Most private memory of the plug-in's process.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), default=3600.0, show_default=True,
              help="Seconds that one model, or the training, may take.")  # fmt: skip
@click.option("--progress/--no-progress", default=None, help="Draw a progress bar (default: on a terminal).")
@json_option
def refine(merged: Path, models: tuple[Path, ...], as_json: bool, progress: bool | None, **given: Any) -> None:
    """Train MERGED to say what each MODEL says, as far as that model's head listens, on inputs that are made up.

    The plug-in makes up the inputs and knows the heads (docs/refine.md); no data is read. What the models add is a sum:
    with --sums later runs need the new models alone. The output appears whole or not at all.
    """
    weights = given["weights"] or (1.0,) * len(models)
    if len(weights) != len(models):
        raise UsageError(f"{len(weights)} --weight for {len(models)} models", hint="Give one --weight per model.")
    if given["without"] and given["sums"] is None:
        raise UsageError("--without takes a model out of --sums", hint="Name the file, or leave the model out.")
    for path in (merged, given["base"], *models, *given["without"]):
        if not path.exists():
            raise UsageError(f"{path}: no such checkpoint", hint="Name checkpoint directories or .safetensors files.")
    from mergenode.bootstrap.refining import RefineRequest, refine_once
    from mergenode.cli.batch_progress import BatchProgress
    from mergenode.cli.resources import memory_limit
    from mergenode.ports.task import TaskProgram

    request = RefineRequest(
        base=given["base"],
        merged=merged,
        output=given["output"],
        task=TaskProgram(
            entrypoint=given["task"],
            path=given["task_path"].absolute(),
            memory_limit=memory_limit(given["memory_limit"]),
            timeout=given["timeout"],
        ),
        models=[(path, _checked("--weight", weight)) for path, weight in zip(models, weights, strict=True)],
        without=given["without"],
        sums=given["sums"],
        epochs=given["epochs"],
        rate=_checked("--rate", given["rate"]),
        seed=given["seed"],
    )
    with BatchProgress(progress, merged.name) as bar:
        result = refine_once(request, bar.told)
    _print(result, request.output, as_json)


def _checked(option: str, value: float) -> float:
    if not 0 < value < float("inf"):
        raise UsageError(f"{option} {value:g} is not a finite number above 0")
    return value


def _print(result: RefineResult, output: Path, as_json: bool) -> None:
    if as_json:
        from dataclasses import asdict

        print_json({**asdict(result), "output": str(output)})
        return
    fields = [
        ("contributions", f"{len(result.contributions)}, {len(result.entered)} of them new"),
        ("without a head", ", ".join(map(visible, result.skipped)) or "-"),
        ("disagreement", f"{result.before:.4g} to {result.after:.4g} in {result.steps:,} steps"),
    ]
    console().print(field_table(fields))
    click.echo(f"written: {visible(str(output))}")
