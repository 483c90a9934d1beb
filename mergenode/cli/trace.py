"""``mergenode trace``: the life of one contribution, from the first sight of it to the versions that hold it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mergenode.cli.facts import sentence, share_kept
from mergenode.cli.node import Node, config_option, open_node
from mergenode.cli.output import (
    console,
    json_option,
    percent_text,
    print_json,
    table,
    visible,
)
from mergenode.errors import UsageError
from mergenode.ledger.lives import JUDGED, PUBLISHED, PUBLISHED_WITHOUT, READ, Moment, key_of, life_of
from mergenode.ledger.records import (
    Admitted,
    ContributionFact,
    Deferred,
    Discovered,
    Fact,
    Folded,
    Member,
    Published,
    Yielded,
)
from mergenode.sizes import bytes_text, seconds_text
from mergenode.tracing.ids import PUSHES, SHORT_DIGITS, TRACE_DIGITS, contribution_trace

if TYPE_CHECKING:
    from mergenode.ports.ledger_store import LedgerReader

SCHEMA = "mergenode.trace/1"

_ID = re.compile(rf"[0-9a-f]{{{SHORT_DIGITS},{TRACE_DIGITS}}}")
_FIRST_FACTS = ("discovered", "rejected", "admitted", "folded")
"""Kinds by which a contribution can first be heard of."""
_LOOKED_AT = (1000, None)
"""Newest facts of a kind that are searched first; then all of them."""
_WORDS = {
    "discovered": "settled: it is complete",
    READ: "reading began",
    JUDGED: "judged",
    PUBLISHED: "published",
    PUBLISHED_WITHOUT: "published without it",
}

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class _Found:
    """``others``: earlier or later revisions and entries that the same words fit, newest first."""

    key: Key
    others: tuple[Key, ...]


@click.command()
@click.argument("what", metavar="NAME|ID")
@config_option
@json_option
def trace(what: str, config: Path, as_json: bool) -> None:
    """The whole life of one contribution: settled, read, judged, folded, published, left, known to which peers.

    NAME is that of the contribution, or of the push that it came by; ID is a trace id or at least its first 8 digits,
    as log lines, exemplars and `mergenode push` show it. Of several revisions the newest is told.

    \b
    Examples:
      mergenode trace my-finetune -c node.yaml
      mergenode trace 4bf92f35 -c node.yaml --json | jq '.moments[] | [.what, .after_seconds]'

    JSON: schema, trace_id, registry, name, revision, in_merge, moments: [{what, time, after_seconds, sequence,
    detail}], total_seconds (from the first moment to the first version that holds it, or null), peers: [{node, how}],
    others: [{registry, name, revision, trace_id}].
    """
    with open_node(config) as node:
        document = _document(node, _search(node, what))
    if as_json:
        print_json(document)
    else:
        _print(document)


def _search(node: Node, what: str) -> _Found:
    """What is meant. Raises UsageError when nothing is."""
    for reader in dict.fromkeys((node.reader, node.shown)):
        named = [fact for _, fact in reader.facts(name=what) if isinstance(fact, ContributionFact)]
        keys = list(dict.fromkeys(key_of(fact) for fact in reversed(named)))
        if keys:
            return _Found(keys[0], tuple(keys[1:]))
        for most in _LOOKED_AT:
            keys = list(dict.fromkeys(_fitting(reader, what, most)))
            if keys:
                return _Found(keys[0], tuple(keys[1:]))
    raise UsageError(
        f"no contribution has the name or trace id {what!r} here",
        hint="`mergenode history` lists what the node has seen; an id needs at least its first 8 digits.",
    )


def _fitting(reader: LedgerReader, what: str, most: int | None) -> Iterator[Key]:
    is_id = _ID.fullmatch(what) is not None
    for kind in _FIRST_FACTS:
        for _, fact in reversed(reader.facts(kinds=(kind,), newest=most)):
            if not isinstance(fact, ContributionFact):
                continue
            key = key_of(fact)
            pushed = fact.registry == PUSHES and fact.name.rpartition("@")[0] == what
            if pushed or (is_id and contribution_trace(*key).startswith(what)):
                yield key


def _document(node: Node, found: _Found) -> dict[str, Any]:
    registry, name, revision = found.key
    of_this = [pair for pair in node.reader.facts(name=name) if _is_of(pair[1], found.key)]
    versions = node.shown.facts(kinds=("published",))
    in_union = [pair for pair in node.shown.facts(name=name) if _is_of(pair[1], found.key)] if node.in_union else []
    # Two ledgers, two orders: what this node did itself, then what became of it in the union that it publishes.
    moments = life_of(of_this, () if node.in_union else versions) + life_of(in_union, versions)
    about = [*of_this, *in_union]
    content = next((fact.content for _, fact in reversed(about) if isinstance(fact, Member)), None)
    member = None if content is None else node.shown.by_content(content)
    published = next((moment for moment in moments if moment.what == PUBLISHED), None)
    return {
        "schema": SCHEMA,
        "trace_id": contribution_trace(*found.key),
        "registry": registry,
        "name": name,
        "revision": revision,
        "in_merge": member is not None,
        "moments": [_moment(moment) for moment in moments],
        "total_seconds": None if published is None else published.time - moments[0].time,
        "peers": _peers(node, about),
        "others": [
            {"registry": key[0], "name": key[1], "revision": key[2], "trace_id": contribution_trace(*key)}
            for key in found.others
        ],
    }


def _is_of(fact: Fact, key: Key) -> bool:
    return isinstance(fact, ContributionFact) and key_of(fact) == key


def _moment(moment: Moment) -> dict[str, Any]:
    return {
        "what": moment.what,
        "time": datetime.fromtimestamp(moment.time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "after_seconds": moment.after,
        "sequence": moment.sequence,
        "detail": _detail(moment),
    }


def _detail(moment: Moment) -> str:
    fact = moment.fact
    match moment.what, fact:
        case ("read", Folded()):
            return f"from {fact.location}, {bytes_text(fact.bytes_read)} in all, {seconds_text(fact.seconds)}"
        case ("judged", Folded()):
            return "; ".join(f"{each['gate']}: {each['action']}, {each['message']}" for each in fact.findings)
        case ("folded", Folded()):
            return f"generation {fact.generation}, weight {fact.weight:g}, {percent_text(share_kept(fact))} of it kept"
        case (_, Published()):
            return f"v{fact.version:06d} at {fact.path}"
        case ("discovered", Discovered()):
            return f"at {fact.location}, {bytes_text(fact.size_bytes)}"
    return sentence(fact)


def _peers(node: Node, facts: Sequence[tuple[int, Fact]]) -> list[dict[str, str]]:
    """Which other nodes are known to know of it: who answered when it was forwarded, and who counts it."""
    from mergenode.adapters.peers.pushing.cursor_file import CursorFile
    from mergenode.bootstrap.forwarding import FORWARDED
    from mergenode.bootstrap.peers import PEERS

    found: dict[str, str] = {}
    first = node.reader.initialised()
    folds = [sequence for sequence, fact in facts if isinstance(fact, Folded)]
    if first is not None and folds:
        file = node.settings.node.state / PEERS / FORWARDED
        for node_id, cursor in CursorFile(file, first.ledger_id, lambda text: None).read().items():
            if not cursor.lacks(folds[-1]):
                found[str(node_id)] = "answered for it when it was forwarded"
    for _, fact in facts:
        if isinstance(fact, Yielded | Deferred):
            found[fact.keeper] = "counts the same content"
        elif isinstance(fact, Admitted) and node.in_union:
            found[fact.origin] = "counts it in the union"
    return [{"node": node_id, "how": how} for node_id, how in sorted(found.items())]


def _print(document: Mapping[str, Any]) -> None:
    out = console()
    out.print(f"{visible(document['registry'])}/{visible(document['name'])}", style="bold")
    out.print(f"trace {document['trace_id']}")
    rows = table("time", "after", "what", "", right=("after",))
    for place, moment in enumerate(document["moments"]):
        after = "" if not place else seconds_text(moment["after_seconds"])
        what = _WORDS.get(moment["what"], moment["what"])
        rows.add_row(moment["time"], after, what, visible(moment["detail"]))
    out.print(rows)
    if document["total_seconds"] is not None:
        out.print(f"from the first moment to the first version: {seconds_text(document['total_seconds'])}")
    out.print("in the merge" if document["in_merge"] else "not in the merge")
    for peer in document["peers"]:
        out.print(f"node {visible(peer['node'])} {peer['how']}")
    for other in document["others"]:
        out.print(f"also {visible(other['registry'])}/{visible(other['name'])}, trace {other['trace_id']}")
