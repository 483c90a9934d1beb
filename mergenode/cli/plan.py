"""``mergenode plan``: what a node takes at most, before it is started."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mergenode.cli.node import config_option
from mergenode.cli.output import console, field_table, json_option, print_json, table
from mergenode.sizes import bytes_text

if TYPE_CHECKING:
    from mergenode.bootstrap.planning import NodePlan

SCHEMA = "mergenode.plan/1"


@click.command()
@config_option
@json_option
def plan(config: Path, as_json: bool) -> None:
    """Disk and memory that the node of these settings takes at most, whatever the number of contributions.

    Only the ledger grows with them, and is not in it: about 2 KiB per contribution, and 0.4 KiB per layer group of its
    report. Memory is what the process will hold, with buffers as large as engine.memory_limit lets them be;
    `mergenode advise` tells the least limit.
    What a contribution leaves alone is shared between generations and versions, so less is usual. Reads the base once.

    \b
    Examples:
      mergenode plan -c node.yaml
      mergenode plan -c node.yaml --json | jq .disk_bytes

    JSON: schema, method, retracts, parameters, memory_bytes, disk_bytes, disk [{what, where, count, each, bytes}],
    state_free_bytes, published_free_bytes.
    """
    from mergenode.bootstrap.planning import plan_node
    from mergenode.cli.progress import TerminalProgress
    from mergenode.settings import load_settings

    settings = load_settings(config)
    with TerminalProgress() as progress:
        found = plan_node(settings, progress)
    if as_json:
        print_json(_document(found))
    else:
        _print(found)


def _document(plan: NodePlan) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "method": plan.method,
        "retracts": plan.retracts,
        "parameters": plan.parameters,
        "memory_bytes": plan.memory,
        "disk_bytes": plan.disk,
        "disk": [
            {"what": need.what, "where": str(need.where), "count": need.count, "each": need.each, "bytes": need.bytes}
            for need in plan.needs
        ],
        "state_free_bytes": plan.state_free,
        "published_free_bytes": plan.published_free,
    }


def _print(plan: NodePlan) -> None:
    out = console()
    fields = [
        ("method", plan.method),
        ("to retract", f"it {plan.retracts}"),
        ("memory", f"{bytes_text(plan.memory)} at most, buffers included"),
        ("disk", f"{bytes_text(plan.disk)} at most, without the ledger"),
        ("free", f"{bytes_text(plan.state_free)} for the state, {bytes_text(plan.published_free)} for versions"),
    ]
    out.print(field_table(fields))
    rows = table("disk", "number", "each", "together", right=("number", "each", "together"))
    for need in plan.needs:
        rows.add_row(need.what, str(need.count), bytes_text(need.each), bytes_text(need.bytes))
    out.print(rows)
