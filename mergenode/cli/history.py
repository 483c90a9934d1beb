"""``mergenode history``: the ledger as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from mergenode.cli.facts import fact_fields, sentence, subject
from mergenode.cli.node import config_option, open_node
from mergenode.cli.output import console, json_option, print_json, table, visible
from mergenode.ledger.records import KINDS
from mergenode.ledger.traces import trace_of
from mergenode.tracing.ids import SHORT_DIGITS

SCHEMA = "mergenode.history/1"


@click.command()
@config_option
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Newest facts to show.")
@click.option("--kind", "kinds", type=click.Choice(sorted(KINDS)), multiple=True, help="Only this kind; repeatable.")
@json_option
def history(config: Path, limit: int, kinds: Sequence[str], as_json: bool) -> None:
    """The newest facts of the ledger, oldest of them first.

    \b
    Examples:
      mergenode history -c node.yaml --kind rejected
      mergenode history -c node.yaml --limit 1000 --json | jq '.facts[].kind'

    JSON: schema, facts: [{sequence, kind, time, trace_id, and the fields of that kind}].
    """
    with open_node(config) as node:
        facts = node.reader.facts(kinds=tuple(kinds), newest=limit)
    if as_json:
        print_json({"schema": SCHEMA, "facts": [fact_fields(sequence, fact) for sequence, fact in facts]})
        return
    out = console()
    rows = table("#", "time", "trace", "fact", "subject", "what", right=("#",))
    for sequence, fact in facts:
        short = trace_of(fact)[:SHORT_DIGITS]
        rows.add_row(str(sequence), fact.time, short, fact.kind, visible(subject(fact)), visible(sentence(fact)))
    out.print(rows)
