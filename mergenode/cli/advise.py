"""``mergenode advise``: which method to take, from what was measured and what this node merges."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mergenode.cli.node import LEDGER_NAME, config_option
from mergenode.cli.output import console, field_table, json_option, number_text, percent_text, print_json, table
from mergenode.sizes import bytes_text

if TYPE_CHECKING:
    from mergenode.bootstrap.advice import Advice
    from mergenode.methods.advice import Choice, Ranked

SCHEMA = "mergenode.advice/1"


@click.command()
@config_option
@click.option("--contributions", type=click.IntRange(min=1), default=None, help="Expect this many.")
@click.option("--retract", is_flag=True, help="Contributions must be subtracted, not replayed.")
@click.option("--combine", is_flag=True, help="States of nodes must be combined.")
@click.option("--side-cars", is_flag=True, help="Contributors can compute Fisher or Gram side-cars.")
@json_option
def advise(
    config: Path, contributions: int | None, retract: bool, combine: bool, side_cars: bool, as_json: bool
) -> None:
    """Which method to take: measured quality beside what it needs for the base of this node.

    Quality is the share of the experts' gain that one model kept in the benchmark of this project, in the setting that
    resembles this node's contributions most (their number, and how far they are from the base). docs/which-method.md
    tells how it was measured. Memory is the least engine.memory_limit that the method can do with. A node keeps its
    method: another one takes a state directory of its own.

    \b
    Examples:
      mergenode advise -c node.yaml
      mergenode advise -c node.yaml --contributions 50 --retract --json

    JSON: schema, node {method, contributions, adapters, relative_norm, cosine}, setting, count, methods [{method,
    options, kept, error, statistics_bytes, memory_bytes, subtracts, combines, against}], best first.
    """
    from mergenode.adapters.durable import free_bytes
    from mergenode.bootstrap.advice import advise_node
    from mergenode.cli.progress import TerminalProgress
    from mergenode.methods.advice import Wishes
    from mergenode.settings import load_settings

    settings = load_settings(config)
    wishes = Wishes(
        retract=retract, combine=combine, side_cars=side_cars, disk=free_bytes(settings.node.state),
        memory=settings.engine.memory_limit,
    )  # fmt: skip
    with ExitStack() as stack:
        reader = None
        if (settings.node.state / LEDGER_NAME).exists():
            from mergenode.adapters.store.sqlite_ledger import open_reader

            reader = open_reader(settings.node.state / LEDGER_NAME)
            stack.callback(reader.close)
        progress = stack.enter_context(TerminalProgress())
        found = advise_node(settings, reader, progress, wishes, contributions)
    if as_json:
        print_json(_document(found))
    else:
        _print(found)


def _document(advice: Advice) -> dict[str, Any]:
    node = advice.node
    return {
        "schema": SCHEMA,
        "node": {
            "method": node.method,
            "contributions": node.contributions,
            "adapters": node.adapters,
            "relative_norm": node.relative_norm,
            "cosine": node.cosine,
        },
        "setting": advice.setting,
        "count": advice.count,
        "methods": [_entry(ranked) for ranked in advice.ranked],
    }


def _entry(ranked: Ranked) -> dict[str, Any]:
    choice, measured = ranked.choice, ranked.measured
    return {
        "method": choice.method,
        "options": dict(choice.options),
        "kept": measured.kept,
        "error": measured.error,
        "statistics_bytes": choice.statistics,
        "memory_bytes": choice.memory,
        "subtracts": choice.subtracts,
        "combines": choice.combines,
        "against": list(ranked.against),
    }


def _print(advice: Advice) -> None:
    from mergenode.methods.advice import within_error

    out, node = console(), advice.node
    best = [_label(each.choice) for each in within_error(advice.ranked)]
    out.print(field_table([
        ("this node", f"{node.method}, {node.contributions} contributions, {node.adapters} of them adapters"),
        ("their norm", f"{percent_text(node.relative_norm)} of the base's matrices, cosine {number_text(node.cosine)}"),
        ("resembles", f"the benchmark's setting {advice.setting!r} with {advice.count} contributions"),
        ("advised", " or ".join(best) or "nothing that was measured fits"),
    ]))  # fmt: skip
    numbers = ("kept", "error", "statistics", "least memory")
    rows = table("method", *numbers, "subtracts", "combines", "against it", right=numbers)
    for each in advice.ranked:
        choice, measured = each.choice, each.measured
        rows.add_row(
            _label(choice), percent_text(measured.kept), percent_text(measured.error), bytes_text(choice.statistics),
            bytes_text(choice.memory), _yes(choice.subtracts), _yes(choice.combines), ", ".join(each.against),
        )  # fmt: skip
    out.print(rows)


def _label(choice: Choice) -> str:
    options = " ".join(f"{name}={value}" for name, value in choice.options.items())
    return f"{choice.method} {options}".rstrip()


def _yes(value: bool) -> str:
    return "yes" if value else "no"
