"""Other nodes and the rounds with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mergenode.adapters.http.page.markup import EMPTY, Cells, Markup, joined, long_table, section, table, tag
from mergenode.adapters.http.page.recent import Recent
from mergenode.adapters.http.page.wording import UNKNOWN, duration, moment, number
from mergenode.ledger.records import Mixed

SHOWN = 64
"""Nodes; the document has all."""
ROUNDS = 12

_LOOKS = {"alive": "good", "draining": "look", "suspect": "look", "down": "bad"}


def peers_section(document: Mapping[str, Any] | None, recent: Recent) -> Markup:
    """Empty for a node that is alone and never was in a round."""
    if document is None and not recent.rounds:
        return EMPTY
    parts = [_nodes(document)] if document is not None else []
    if recent.rounds:
        parts += [tag("h3", "Newest rounds"), _rounds(recent.rounds[-ROUNDS:])]
    own = f"This is {document['node_id'][:8]}. " if document is not None else ""
    note = joined([own, "Everything about them: ", tag("code", "mergenode peers"), "."])
    return section("peers", "Peers and rounds" if recent.rounds else "Peers", *parts, note=note)


def _nodes(document: Mapping[str, Any]) -> Markup:
    peers = document["peers"]
    rows: list[Cells] = [
        (
            tag("span", peer["node_id"][:8], title=peer["node_id"]),
            peer["address"] or UNKNOWN,
            _state(peer),
            _seconds(peer["seen_seconds_ago"], " ago"),
            _milliseconds(peer["round_trip_seconds"]),
            _lag(peer),
            number(peer["distance"]),
        )
        for peer in peers[:SHOWN]
    ]
    columns = ("node", "address", "state", "heard", "answers in", "behind", "distance")
    listed = table(columns, rows, caption="Other nodes", numbers=("answers in", "distance"))
    rest = tag("p", f"and {len(peers) - SHOWN} more", class_="note") if len(peers) > SHOWN else EMPTY
    failed = [call for call in document["calls"] if call["error"]]
    calls = tag("ul", *(tag("li", tag("b", call["address"]), f" {call['error']}") for call in failed[:SHOWN]),
                class_="names left") if failed else EMPTY  # fmt: skip
    return joined([listed, rest, calls])


def _state(peer: Mapping[str, Any]) -> Markup:
    state = str(peer["state"])
    badge = tag("span", state, class_=f"badge {_LOOKS.get(state, '')}".rstrip())
    told = "" if peer["neighbour"] else " not a neighbour"
    if peer["banned"] is not None:
        return joined([badge, " ", tag("span", "banned", class_="badge bad"), " ",
                       tag("small", str(peer["banned"]["reason"]))])  # fmt: skip
    return joined([badge, told])


def _lag(peer: Mapping[str, Any]) -> str:
    """Rounds that it is behind, and heads of it that are not here yet."""
    epochs, heads = peer["epochs_behind"], peer["heads_behind"]
    told = []
    if epochs:
        told.append(("1 round" if epochs == 1 else f"{epochs} rounds") if epochs > 0 else f"ahead by {-epochs}")
    if heads:
        told.append("1 head on the way" if heads == 1 else f"{heads} heads on the way")
    return ", ".join(told) if told else ("0" if epochs == 0 else UNKNOWN)


def _rounds(rounds: Sequence[Mixed]) -> Markup:
    rows: list[Cells] = [
        (str(mixed.number), str(mixed.epoch), _neighbours(mixed), number(mixed.spread), number(mixed.update),
         _scores(mixed), duration(sum(mixed.seconds.values())), _outcome(mixed), moment(mixed.time))
        for mixed in reversed(rounds)
    ]  # fmt: skip
    columns = (
        "round",
        "epoch",
        "neighbours",
        "consensus distance",
        "training moved",
        "scores",
        "took",
        "outcome",
        "when",
    )
    return long_table(
        columns, rows, caption="Newest rounds", numbers=("epoch", "consensus distance", "training moved", "took")
    )


def _neighbours(mixed: Mixed) -> str:
    told = [f"{len(mixed.parents)} mixed"]
    told += [f"{count} {word}" for count, word in ((len(mixed.refused), "refused"), (mixed.missing, "missing"),
                                                  (mixed.stale, "late")) if count]  # fmt: skip
    return ", ".join(told)


def _scores(mixed: Mixed) -> str:
    scores = mixed.scores.get("own" if mixed.kept_own else "mixed") or {}
    return ", ".join(f"{task} {number(value)}" for task, value in sorted(scores.items())) or UNKNOWN


def _outcome(mixed: Mixed) -> str:
    if mixed.training_failed:
        return f"training failed: {mixed.training_failed}"
    return "mix dropped, it was worse" if mixed.kept_own else "mixed"


def _seconds(value: float | None, after: str) -> str:
    return UNKNOWN if value is None else duration(value) + after


def _milliseconds(value: float | None) -> str:
    return UNKNOWN if value is None else f"{1000 * value:.0f} ms"
