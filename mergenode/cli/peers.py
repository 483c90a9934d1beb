"""``mergenode peers``: the other nodes, as the running node sees them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from mergenode.cli.lazy import SuggestingGroup
from mergenode.cli.node import config_option, open_node
from mergenode.cli.output import console, field_table, json_option, number_text, print_json, table, visible
from mergenode.errors import FatalError, UsageError
from mergenode.ledger.records import Heard
from mergenode.sizes import seconds_text

SCHEMA = "mergenode.peers/1"
PATH = "/api/v1/peers"
_PATIENCE_SECONDS = 5.0
_MOST_BYTES = 16 << 20
_NUMBERS = ("start", "round trip", "seen", "heads", "epochs", "distance", "refused")


@click.group(cls=SuggestingGroup, invoke_without_command=True)
@config_option
@json_option
@click.pass_context
def peers(context: click.Context, config: Path, as_json: bool) -> None:
    """The other nodes, as the running node sees them: asked over its http.listen.

    heads and epochs say how far a node is behind: heads it signed that are not here yet, rounds it lags.

    \b
    Examples:
      mergenode peers -c node.yaml
      mergenode peers -c node.yaml --json | jq '.peers[] | select(.state != "alive")'
      mergenode peers forget 90b83996 -c node.yaml --why "its disk is gone"

    JSON: schema, node, and the keys of /api/v1/peers (docs/metrics.md).
    """
    if context.invoked_subcommand is not None:
        return
    from mergenode.settings import load_settings

    settings = load_settings(config)
    if settings.peers.listen is None:
        raise FatalError(f"{config}: the node has no peers", hint="set peers.listen and peers.neighbours")
    if settings.http.address is None or settings.http.address[1] == 0:
        raise FatalError(f"{config}: the running node cannot be asked", hint="set http.listen to a fixed port")
    document = _asked(*settings.http.address, config)
    document = {**document, "schema": SCHEMA, "node": settings.node.name}
    if as_json:
        print_json(document)
    else:
        _print(document)


@peers.command()
@click.argument("node", metavar="NODE")
@config_option
@click.option("--why", default="", help="A reason, kept in the ledgers and shown by history.")
def forget(node: str, config: Path, why: str) -> None:
    """Give up a node of a union that does not come back: what it offered counts no more, on every node.

    NODE is its id, or the beginning of it. What other nodes could fold as well is folded there. Should the node come
    back with its state, it counts again from its next start on.

    \b
    Example:
      mergenode peers forget 90b83996 -c node.yaml --why "its disk is gone"
    """
    from mergenode.cli.changes import submit_and_wait
    from mergenode.ledger.changes import Change

    with open_node(config) as opened:
        if not opened.in_union:
            raise UsageError(
                f"{config}: the node is in no union", hint="Only mixer: {name: union} keeps parts of others."
            )
        known = sorted({fact.name for _, fact in opened.shown.facts(kinds=["heard"]) if isinstance(fact, Heard)})
        meant = [name for name in known if name.startswith(node.lower())]
        if len(meant) != 1:
            what = "nothing was heard of a node" if not meant else f"{len(meant)} nodes begin with"
            raise UsageError(f"{what} {node!r}", hint=f"Heard of: {', '.join(known) or 'nobody'}.")
        submit_and_wait(opened, config, Change("", forget=meant[0], why=why))
        click.echo(f"forgotten: {meant[0]}; other nodes hear of it and count its part no more, either")


def _asked(host: str, port: int, config: Path) -> dict[str, Any]:
    import http.client
    import json

    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - what it listens on, not what we do
    connection = http.client.HTTPConnection(host, port, timeout=_PATIENCE_SECONDS)
    try:
        connection.request("GET", PATH)
        response = connection.getresponse()
        status, body = response.status, response.read(_MOST_BYTES)
        document = json.loads(body)
    except (OSError, http.client.HTTPException, ValueError) as error:
        hint = f"start it with `mergenode run -c {config}`"
        raise FatalError(f"{host}:{port}: the node does not answer: {error or 'no word'}", hint=hint) from error
    finally:
        connection.close()
    if status != http.client.OK or not isinstance(document, dict) or not isinstance(document.get("peers"), list):
        said = document.get("error") if isinstance(document, dict) else None
        message = said.get("message") if isinstance(said, dict) else f"status {status}"
        hint = "it runs with other settings than this file, or another version: restart it"
        raise FatalError(f"{host}:{port}{PATH}: {message}", hint=hint)
    return document


def _print(document: Mapping[str, Any]) -> None:
    out = console()
    own, topology = document["own"], document["topology"]
    model = (
        f"epoch {own['epoch']}, head {own['incarnation']}.{own['seq']}, {own['root'][:12]}" if own else "no head yet"
    )
    fields = [
        ("node", f"{document['node']} {document['node_id']}{', draining' if document['draining'] else ''}"),
        ("lineage", document["lineage"]),
        ("model", model),
        ("topology", f"{len(topology['neighbours'])} entries, generation {topology['generation']}"),
    ]
    out.print(field_table(fields))
    rows = table("node", "state", "address", *_NUMBERS, right=_NUMBERS)
    for peer in document["peers"]:
        rows.add_row(*_row(peer))
    out.print()
    out.print(rows if document["peers"] else "no other node was heard of")
    for call in document["calls"]:
        if call["error"]:
            out.print(visible(f"{call['address']}: {call['error']}"))


def _row(peer: Mapping[str, Any]) -> list[str]:
    state = "banned" if peer["banned"] else peer["state"]
    return [
        visible(peer["node_id"][:8]),
        visible(state if peer["neighbour"] else f"{state}, not called"),
        visible(peer["address"] or "-"),
        str(peer["incarnation"]),
        _seconds(peer["round_trip_seconds"]),
        _seconds(peer["seen_seconds_ago"]),
        _count(peer["heads_behind"]),
        _count(peer["epochs_behind"]),
        number_text(peer["distance"]),
        str(sum(peer["refusals"].values())),
    ]


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{1000 * value:.1f} ms" if value < 1 else seconds_text(value)


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)
