"""``mergenode quarantine``: what gates held back, and what the operator makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mergenode.cli.facts import fact_fields
from mergenode.cli.findings import print_findings
from mergenode.cli.lazy import SuggestingGroup
from mergenode.cli.node import Node, config_option, open_node
from mergenode.cli.output import console, field_table, json_option, print_json, table, visible
from mergenode.cli.quarantine_decision import decided, entry_named
from mergenode.ledger.changes import DROP, RELEASE
from mergenode.ledger.records import Held, Quarantined

SCHEMA = "mergenode.quarantine/1"
_SHOWN = 100

why_option = click.option("--why", default="", help="A reason, kept in the ledger and shown by history.")
registry_option = click.option("--registry", default=None, help="Its registry, where several have that name.")


@click.group(cls=SuggestingGroup)
def quarantine() -> None:
    """What gates held back: look at it, let it go, or drop it.

    NAME is that of the contribution as list shows it, the name a team pushed it under, or a content digest. Works
    beside a running node, and where none runs.

    \b
    Examples:
      mergenode quarantine list -c node.yaml
      mergenode quarantine show my-finetune -c node.yaml
      mergenode quarantine release my-finetune -c node.yaml --why "trained with a larger rate on purpose"
      mergenode quarantine drop my-finetune -c node.yaml --why "diverged"
    """


@quarantine.command("list")
@config_option
@json_option
def list_(config: Path, as_json: bool) -> None:
    """What is in quarantine, oldest first, and what was released and is not folded yet.

    JSON: schema, quarantined and released (facts as in history).
    """
    with open_node(config) as node:
        held = node.reader.quarantine()
    waiting = [(number, fact) for number, fact in held if isinstance(fact, Quarantined)]
    released = [(number, fact) for number, fact in held if not isinstance(fact, Quarantined)]
    if as_json:
        fields = {"quarantined": _fields(waiting), "released": _fields(released)}
        print_json({"schema": SCHEMA, **fields})
        return
    if not held:
        click.echo("nothing is in quarantine")
    if waiting:
        _print_waiting([fact for _, fact in waiting])
    for _, fact in released:
        click.echo(visible(f"released, not folded yet: {fact.registry}/{fact.name}"))


@quarantine.command()
@click.argument("name", metavar="NAME")
@config_option
@registry_option
@json_option
def show(name: str, config: Path, registry: str | None, as_json: bool) -> None:
    """Everything that gates found about one contribution in quarantine.

    JSON: schema, entry (the fact as in history, with its findings).
    """
    with open_node(config) as node:
        sequence, fact = entry_named(node, name, registry)
    document = fact_fields(sequence, fact)
    if as_json:
        print_json({"schema": SCHEMA, "entry": document})
        return
    out = console()
    out.print(f"{visible(fact.registry)}/{visible(fact.name)}", style="bold")
    keys = ("kind", "time", "content", "location", "weight", "gate", "reason", "message", "hint", "who", "why")
    out.print(field_table((key, document[key]) for key in keys if document.get(key) not in (None, "")))
    print_findings(document.get("findings", ()), out)


@quarantine.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@config_option
@registry_option
@why_option
@json_option
def release(names: tuple[str, ...], config: Path, registry: str | None, why: str, as_json: bool) -> None:
    """Let the contributions NAME out: they are folded, whatever gates find; what they find is kept as a warning.

    Returns once that is recorded; the node folds next, or at its next start.

    JSON: schema, decision (release), facts (as in history).
    """
    with open_node(config) as node:
        _tell(node, config, RELEASE, _chosen(node, names, registry), why, as_json)


@quarantine.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@config_option
@registry_option
@why_option
@json_option
def drop(names: tuple[str, ...], config: Path, registry: str | None, why: str, as_json: bool) -> None:
    """Refuse the contributions NAME for good: their content is not taken again, whatever it is called.

    `mergenode ingest PATH` has it judged again. Files that a team pushed are removed, others stay.

    JSON: schema, decision (drop), facts (as in history).
    """
    with open_node(config) as node:
        _tell(node, config, DROP, _chosen(node, names, registry), why, as_json)


def _chosen(node: Node, names: Sequence[str], registry: str | None) -> list[Held]:
    return [entry_named(node, name, registry)[1] for name in names]


def _tell(node: Node, config: Path, decision: str, chosen: Sequence[Held], why: str, as_json: bool) -> None:
    facts, running = decided(node, config, decision, chosen, why)
    if as_json:
        print_json({"schema": SCHEMA, "decision": decision, "facts": _fields(facts)})
        return
    then = {
        DROP: "is not taken again",
        RELEASE: "is folded next" if running else "is folded at the next start of the node",
    }[decision]
    for fact in chosen:
        done = "dropped" if decision == DROP else "released"
        click.echo(visible(f"{done} {fact.registry}/{fact.name}: it {then}"))


def _fields(facts: Sequence[tuple[int, Any]]) -> list[dict[str, Any]]:
    return [fact_fields(sequence, fact) for sequence, fact in facts]


def _print_waiting(facts: Sequence[Quarantined]) -> None:
    rows = table("contribution", "since", "gate", "why")
    for fact in facts[-_SHOWN:]:
        rows.add_row(visible(f"{fact.registry}/{fact.name}"), fact.time, visible(fact.gate), visible(fact.message))
    console().print(rows)
    if len(facts) > _SHOWN:
        click.echo(f"and {len(facts) - _SHOWN} older ones (--json lists all)")
