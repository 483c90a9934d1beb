"""``mergenode pool``: what a selector could choose from, what it chose, and why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mergenode.cli.lazy import SuggestingGroup
from mergenode.cli.node import config_option, open_node
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
from mergenode.errors import FatalError, RejectReason
from mergenode.ledger.considered import WHY
from mergenode.ledger.records import Discovered, Fact, Folded, Rejected, Selected
from mergenode.ledger.selection import in_pool

if TYPE_CHECKING:
    from mergenode.ports.ledger_store import LedgerReader
    from mergenode.types import Digest

RANK_SCHEMA = "mergenode.pool-rank/1"
LIST_SCHEMA = "mergenode.pool/1"


@click.group(cls=SuggestingGroup)
def pool() -> None:
    """What the selector frank_wolfe could choose from, what it chose, and why.

    \b
    Examples:
      mergenode pool rank -c node.yaml
      mergenode pool list -c node.yaml --json | jq '.pool[].name'
    """


@pool.command()
@config_option
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Contributions to show.")
@json_option
def rank(config: Path, limit: int, as_json: bool) -> None:
    """The newest selection: score, weight and reason of every contribution.

    score is <gradient, contribution - mix> at the mix that was chosen, in units of the loss: below 0 it would lower the
    loss. share is its part of the mix, weight what it was folded with. gap bounds how much lower the loss of any other
    mix could be, where the loss is convex.

    \b
    Examples:
      mergenode pool rank -c node.yaml
      mergenode pool rank -c node.yaml --json | jq '.contributions[] | select(.why == "chosen")'

    JSON: schema, time, loss, gap, gaps, losses, rounds, stopped, size, counts, contributions: [{content, registry,
    name, score, share, weight, profile, norm, why, evicted}]; the chosen ones and the best 100 of the others. evicted:
    it left the pool since, as there were more than selector.limit.
    """
    with open_node(config) as node:
        fact = _newest(node.reader, config)
        document = _ranked(fact, node.reader)
    if as_json:
        print_json(document)
        return
    _print(document, limit)


@pool.command("list")
@config_option
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, help="Newest ones to look at.")
@json_option
def list_(config: Path, limit: int, as_json: bool) -> None:
    """What can be chosen, by the facts: discovered, and neither refused nor retracted.

    What was removed from its registry meanwhile is still shown; the node leaves it out when it selects.

    \b
    Example:
      mergenode pool list -c node.yaml

    JSON: schema, pool: [{registry, name, revision, since, location, in_merge, weight}], evicted: [{registry, name,
    revision, since, location, message, hint}]; evicted: what left because there were more than selector.limit.
    """
    with open_node(config) as node:
        entries, evicted = _pool(node.reader, limit)
    if as_json:
        print_json({"schema": LIST_SCHEMA, "pool": entries, "evicted": evicted})
        return
    rows = table("contribution", "since", "weight", "location", right=("weight",))
    for entry in entries:
        rows.add_row(
            visible(f"{entry['registry']}/{entry['name']}"), entry["since"], number_text(entry["weight"]),
            visible(entry["location"]),
        )  # fmt: skip
    console().print(rows if entries else "the pool is empty")
    if evicted:
        gone = table("evicted", "since", "message")
        for entry in evicted:
            gone.add_row(visible(f"{entry['registry']}/{entry['name']}"), entry["since"], visible(entry["message"]))
        console().print()
        console().print(gone)


def _newest(reader: LedgerReader, config: Path) -> Selected:
    for _, fact in reader.facts(kinds=("selected",), newest=1):
        if isinstance(fact, Selected):
            return fact
    raise FatalError(
        f"{config}: nothing was selected yet",
        hint="Set selector: {name: frank_wolfe} (docs/selection.md) and run the node; `mergenode history` tells more.",
    )


def _ranked(fact: Selected, reader: LedgerReader) -> dict[str, Any]:
    folded = {entry["content"]: entry for entry in fact.target}
    contributions = [
        {
            **entry,
            "weight": folded.get(entry["content"], {}).get("weight", 0.0),
            "profile": folded.get(entry["content"], {}).get("profile", {}),
            "evicted": _was_evicted(entry["content"], reader),
        }
        for entry in map(dict, fact.contents)
    ]
    return {
        "schema": RANK_SCHEMA,
        "time": fact.time,
        "loss": fact.loss,
        "gap": fact.gap,
        "losses": list(fact.losses),
        "gaps": list(fact.gaps),
        "rounds": fact.rounds,
        "stopped": fact.stopped,
        "size": fact.size,
        "counts": dict(fact.counts),
        "contributions": contributions,
    }


def _was_evicted(content: Digest, reader: LedgerReader) -> bool:
    """Whether it is out of the pool for that reason now: what was asked for since is not."""
    refusal = reader.refusal(content)
    if refusal is None:
        return False
    key = (refusal.registry, refusal.name, refusal.revision)
    return _evicted(reader.outcomes([key]).get(key)) is not None


def _evicted(outcome: Fact | None) -> Rejected | None:
    return outcome if isinstance(outcome, Rejected) and outcome.reason == RejectReason.EVICTED else None


def _pool(reader: LedgerReader, limit: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What can be chosen, and what was evicted."""
    found: dict[tuple[str, str, str], Discovered] = {}
    for _, fact in reader.facts(kinds=("discovered",), newest=limit):
        if isinstance(fact, Discovered):
            found[(fact.registry, fact.name, fact.revision)] = fact
    outcomes = reader.outcomes(found)
    inside = [_entry(fact, outcomes.get(key)) for key, fact in found.items() if in_pool(outcomes.get(key))]
    gone = [(fact, refusal) for key, fact in found.items() if (refusal := _evicted(outcomes.get(key))) is not None]
    return inside, [
        {
            "registry": fact.registry, "name": fact.name, "revision": fact.revision, "since": refusal.time,
            "location": fact.location, "message": refusal.message, "hint": refusal.hint,
        }
        for fact, refusal in gone
    ]  # fmt: skip


def _entry(fact: Discovered, outcome: Fact | None) -> dict[str, Any]:
    inside = isinstance(outcome, Folded)
    return {
        "registry": fact.registry,
        "name": fact.name,
        "revision": fact.revision,
        "since": fact.time,
        "location": fact.location,
        "in_merge": inside,
        "weight": outcome.weight if isinstance(outcome, Folded) else None,
    }


def _print(document: Mapping[str, Any], limit: int) -> None:
    out = console()
    counts = ", ".join(f"{number} {why}" for why, number in sorted(document["counts"].items()))
    fields = [
        ("selected", document["time"]),
        ("pool", f"{document['size']} contents: {counts}" if counts else "empty"),
        ("loss", f"{number_text(document['loss'])} (at the start: {number_text(document['losses'][0])})"),
        ("gap", f"{number_text(document['gap'])} after {document['rounds']} rounds ({document['stopped']})"),
    ]
    out.print(field_table(fields))
    numbers = ("score", "share", "weight", "norm")
    rows = table("contribution", *numbers, "why", right=numbers)
    for entry in document["contributions"][:limit]:
        rows.add_row(
            visible(f"{entry['registry']}/{entry['name']}"), number_text(entry["score"]), percent_text(entry["share"]),
            number_text(entry["weight"]), number_text(entry["norm"]),
            WHY.get(entry["why"], visible(entry["why"])) + (", evicted since" if entry["evicted"] else ""),
        )  # fmt: skip
    out.print()
    out.print(rows)
    if len(document["contributions"]) > limit:
        out.print(f"and {document['size'] - limit} more; --limit shows them")
