"""``mergenode merge``: models in, one new checkpoint out."""

from __future__ import annotations

import json
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mergenode.cli.output import (
    console,
    field_table,
    json_option,
    number_text,
    percent_text,
    print_json,
    table,
    visible,
)
from mergenode.cli.resources import memory_limit, thread_count
from mergenode.cli.scale import scale_fields
from mergenode.errors import UsageError
from mergenode.sizes import bytes_text, seconds_text

if TYPE_CHECKING:
    from mergenode.adapters.engines.local.one_shot import MergePlan

_DTYPES = {"auto": None, "float32": "F32", "bfloat16": "BF16", "float16": "F16"}


@click.command(
    epilog="\b\nExample:\n  mergenode merge --base ./base --output ./merged --method opcm --set alpha=0.5 ./a ./b"
)
@click.option("--base", required=True, type=click.Path(path_type=Path), help="The checkpoint they were tuned from.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="New directory for the result.")
@click.option(
    "--method",
    default="opcm",
    show_default=True,
    help="One of docs/methods.md: opcm, average, task_arithmetic, iso, ...",
)
@click.option("--set", "options", multiple=True, metavar="NAME=VALUE", help="An option of the method; repeatable.")
@click.option("--weight", "weights", multiple=True, type=float, help="One per model, in order; default 1.")
@click.option("--dtype", type=click.Choice(list(_DTYPES)), default="auto", show_default=True, help="Published type.")
@click.option("--memory-limit", default="2GiB", show_default=True, help="Most memory to use; refused when too small.")
@click.option("--threads", default="auto", show_default=True, help="Compute threads; the result does not depend on it.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--max-relative-norm", type=float, default=0.95, show_default=True, help="Refuse models of another base.")
@click.option("--plan", "plan_only", is_flag=True, help="Check everything, print the plan, write nothing.")
@json_option
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
def merge(models: tuple[Path, ...], plan_only: bool, as_json: bool, **given: Any) -> None:
    """Merge fine-tunes (directories, .safetensors files, LoRA adapters) of one base, in the given order.

    The plan is printed first, and refused when disk or memory cannot hold it. The output appears whole or not at all.
    """
    weights = given["weights"] or (1.0,) * len(models)
    if len(weights) != len(models):
        raise UsageError(f"{len(weights)} --weight for {len(models)} models", hint="Give one --weight per model.")
    for weight in weights:
        if not (isfinite(weight) and weight > 0):
            raise UsageError(f"--weight {weight:g} is not a finite number above 0")
    limit = given["max_relative_norm"]
    if not limit > 0:
        raise UsageError(f"--max-relative-norm {limit:g} is not a number above 0", hint="inf accepts any model.")
    for path in (given["base"], *models):
        _must_exist(path)
    options = _options(given["options"])
    from mergenode.adapters.engines.local.engine import Resources
    from mergenode.bootstrap.one_shot import MergeRequest, merge_once
    from mergenode.cli.progress import TerminalProgress
    from mergenode.types import DType

    dtype = _DTYPES[given["dtype"]]
    request = MergeRequest(
        base=given["base"],
        output=given["output"],
        models=list(zip(models, weights, strict=True)),
        method=given["method"],
        options=options,
        dtype=DType(dtype) if dtype else None,
        resources=Resources(
            memory_limit=memory_limit(given["memory_limit"]),
            threads=thread_count(given["threads"]),
            device=given["device"],
        ),
        max_relative_norm=limit,
    )

    def approve(plan: MergePlan) -> None:
        if not as_json or plan_only:
            _print_plan(plan, as_json)
        if plan_only:
            raise _PlanOnly

    try:
        with TerminalProgress() as progress:
            manifest = merge_once(request, progress, approve)
    except _PlanOnly:
        return
    if as_json:
        print_json({**manifest, "output": str(request.output)})
    else:
        _print_result(manifest, request.output)


class _PlanOnly(Exception):
    pass


def _must_exist(path: Path) -> None:
    if path.exists():
        return
    from difflib import get_close_matches

    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = get_close_matches(path.name, siblings, n=1)
    raise UsageError(
        f"{path}: no such file or directory",
        hint=f"Did you mean {path.parent / near[0]}?" if near else "Name checkpoint directories or .safetensors files.",
    )


def _options(pairs: tuple[str, ...]) -> dict[str, object]:
    options: dict[str, object] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not name:
            raise UsageError(f"--set {pair!r} is not NAME=VALUE", hint="For example --set alpha=0.5.")
        try:
            options[name] = json.loads(text)
        except ValueError:
            options[name] = text
    return options


def _print_plan(plan: MergePlan, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        print_json(asdict(plan))
        return
    click.echo(
        f"plan: {plan.models} models of {plan.parameters / 1e6:.1f} M parameters, "
        f"{'one pass' if plan.one_pass else 'two passes'}; read {bytes_text(plan.read_bytes)}, "
        f"write {bytes_text(plan.write_bytes)}, disk {bytes_text(plan.disk_needed)} of {bytes_text(plan.disk_free)} "
        f"free, memory at most {bytes_text(plan.memory_bytes)}, about {seconds_text(plan.seconds)}"
    )


def _print_result(manifest: dict[str, Any], output: Path) -> None:
    rows = table("model", "kind", "norm", "relative", "share kept", "content", right=("norm", "relative", "share kept"))
    for entry in manifest["contributions"]:
        rows.add_row(
            visible(entry["name"]), entry["kind"], number_text(entry["norm"]), percent_text(entry["relative_norm"]),
            percent_text(entry["share_kept"]), entry["content"][:23],
        )  # fmt: skip
    console().print(rows)
    console().print(field_table(scale_fields(manifest.get("scale"))))
    click.echo(f"written: {visible(str(output))}")
