"""``mergenode combine``: the merges of two nodes become one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mergenode.cli.output import console, field_table, json_option, print_json
from mergenode.cli.resources import memory_limit, thread_count
from mergenode.errors import UsageError

if TYPE_CHECKING:
    from mergenode.bootstrap.combination import Combined
    from mergenode.ledger.records import Admitted


@click.command(
    epilog="\b\nExample:\n  mergenode combine ./node-a/state ./node-b/state --base ./base --output ./together/state"
)
@click.argument("state_a", type=click.Path(path_type=Path))
@click.argument("state_b", type=click.Path(path_type=Path))
@click.option("--base", required=True, type=click.Path(path_type=Path), help="The base that both were made for.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="New directory for the state.")
@click.option("--memory-limit", default="2GiB", show_default=True, help="Most memory to use; refused when too small.")
@click.option("--threads", default="auto", show_default=True, help="Compute threads; the result does not depend on it.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@json_option
def combine(state_a: Path, state_b: Path, base: Path, output: Path, as_json: bool, **given: Any) -> None:
    """Make one merge of the merges of two nodes, as a new state directory that a node goes on from.

    Both must have the same base, method and options. What both hold enters once. Neither state is changed, and their
    nodes may run meanwhile. The output appears whole or not at all.
    """
    if not base.exists():
        raise UsageError(f"{base}: no such file or directory", hint="Name the base checkpoint of the two nodes.")
    from mergenode.adapters.engines.local.engine import Resources
    from mergenode.bootstrap.combination import CombineRequest, combine_states
    from mergenode.cli.progress import TerminalProgress

    request = CombineRequest(
        states=(state_a, state_b),
        base=base,
        output=output,
        resources=Resources(
            memory_limit=memory_limit(given["memory_limit"]),
            threads=thread_count(given["threads"]),
            device=given["device"],
        ),
    )
    with TerminalProgress() as progress:
        made = combine_states(request, progress)
        for text in _warnings(made):
            progress.message("warning", text)
    document = _document(made, output)
    if as_json:
        print_json(document)
    else:
        _print_result(document)


def _warnings(made: Combined) -> list[str]:
    uneven = [how_uneven(kept, other) for kept, other in made.combination.uneven]
    contested = [
        f"{member.name!r} was retracted in one state and is in the other: it is in the result; "
        "`mergenode retract` takes it out"
        for member, _ in made.combination.contested
    ]
    return uneven + contested


def how_uneven(kept: Admitted, other: Admitted) -> str:
    """What is told of a contribution that entered two merges differently; ``kept``: as the first state has it."""
    same = dict(kept.profile) == dict(other.profile)
    if kept.weight != other.weight:
        said = f"weighs {kept.weight:g} in the first state and {other.weight:g} in the second: {kept.weight:g} counts"
        return f"{kept.name!r} {said}" + ("" if same else ", with the profile of the first")
    return f"{kept.name!r} has another profile in the second state: that of the first counts"


def _document(made: Combined, output: Path) -> dict[str, Any]:
    """What ``--json`` prints."""
    plan, restated = made.combination, made.restated
    return {
        "output": str(output),
        "ledger_id": made.origin.ledger_id,
        "base": made.origin.base,
        "method": {"name": made.origin.method, "options": dict(made.origin.options)},
        "count": restated.count,
        "counts": [len(side.members) for side in plan.sides],
        "shared": plan.shared,
        "subtracted": len(plan.leaving),
        "taken_over": None if plan.taken is None else "ab"[plan.taken],
        "uneven": [
            {
                "name": kept.name,
                "content": kept.content,
                "weight": kept.weight,
                "other_weight": other.weight,
                "profile": dict(kept.profile),
                "other_profile": dict(other.profile),
            }
            for kept, other in plan.uneven
        ],
        "retracted": [member.name for member, _ in plan.withdrawn],
        "contested": [member.name for member, _ in plan.contested],
        "statistics": restated.statistics,
        "lineage": restated.lineage,
        "seconds": restated.seconds,
        "bytes_read": restated.bytes_read,
        "bytes_written": restated.bytes_written,
    }


def _print_result(document: dict[str, Any]) -> None:
    first, second = document["counts"]
    how = "both were added up"
    if document["taken_over"]:
        how = (
            f"everything is in the {'first' if document['taken_over'] == 'a' else 'second'} already, nothing to compute"
        )
    elif document["subtracted"]:
        how += f", after {document['subtracted']} in both left one of them"
    rows = [
        ("method", document["method"]["name"]),
        (
            "in the merge",
            f"{document['count']} contributions: {first} and {second}, {document['shared']} of them in both",
        ),
        ("how", how),
        ("written", document["output"]),
    ]
    console().print(field_table(rows))
