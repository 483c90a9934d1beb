"""The status page: is it well, what is in the merge, where does it drift, what needs somebody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mergenode
from mergenode.adapters.http.live import Live
from mergenode.adapters.http.page.attention import matters
from mergenode.adapters.http.page.contributions import merge_section, problems_section, quarantine_section
from mergenode.adapters.http.page.drift import drift_section, places
from mergenode.adapters.http.page.glance import glance_section
from mergenode.adapters.http.page.heat_map import heat_section
from mergenode.adapters.http.page.markup import Markup, joined, tag, text, void
from mergenode.adapters.http.page.peers import peers_section
from mergenode.adapters.http.page.recent import read_recent
from mergenode.adapters.http.page.stylesheet import STYLESHEET
from mergenode.adapters.http.page.timeline import timeline_section
from mergenode.adapters.http.page.work import now_section, queue_section
from mergenode.ports.ledger_store import LedgerReader

_DOCUMENTS = ("status", "history", "versions", "quarantine", "tensors")


@dataclass(frozen=True, slots=True)
class Wish:
    """What the reader asked for. ``heat``: figure of the map of layers; ``refresh``: seconds until the page reloads."""

    heat: str | None = None
    refresh: int | None = None


def status_page(
    node: str,
    reader: LedgerReader,
    live: Live,
    stalled_after_seconds: float,
    *,
    peers: Mapping[str, Any] | None = None,
    wish: Wish = Wish(),
) -> str:
    """The page as one string. Names and messages in it come from others: never taken as markup.

    Args:
        peers: the document of ``/api/v1/peers``; None: the node has no peers.

    Reads a constant number of facts, whatever the history.
    """
    recent = read_recent(reader)
    located = places(recent)
    found = matters(recent, live, peers, stalled_after_seconds)
    parts = [
        glance_section(recent, live, found, located),
        now_section(live),
        queue_section(live),
        quarantine_section(recent),
        drift_section(recent, located),
        timeline_section(recent, located),
        heat_section(recent.folds, wish.heat),
        merge_section(recent),
        peers_section(peers, recent),
        problems_section(recent),
    ]
    body = tag("body", _top(node, parts), tag("main", *parts), _foot(live, wish, alone=peers is None))
    return f"<!doctype html>{tag('html', _head(node, wish), body, lang='en')}\n"


def _head(node: str, wish: Wish) -> Markup:
    refresh = [void("meta", http_equiv="refresh", content=str(wish.refresh))] if wish.refresh else []
    return tag(
        "head",
        void("meta", charset="utf-8"),
        void("meta", name="viewport", content="width=device-width, initial-scale=1"),
        void("meta", name="color-scheme", content="light dark"),
        *refresh,
        tag("title", f"{node} · mergenode"),
        Markup(f"<style>{STYLESHEET}</style>"),
    )


def _top(node: str, parts: list[Markup]) -> Markup:
    names = {
        "now": "Now", "queue": "Queue", "quarantine": "Quarantine", "drift": "Drift", "versions": "Versions",
        "layers": "Layers", "merge": "Merge", "peers": "Peers", "problems": "Rejections",
    }  # fmt: skip
    there = [name for name in names if any(f'<section id="{name}">' in part for part in parts)]
    links = [tag("a", names[name], href=f"#{name}") for name in there]
    return tag("header", tag("h1", tag("span", "mergenode"), " ", node), tag("nav", *links, aria_label="Sections"))


def _foot(live: Live, wish: Wish, *, alone: bool) -> Markup:
    names = _DOCUMENTS if alone else (*_DOCUMENTS, "peers")
    links = joined((tag("a", name, href=f"/api/v1/{name}") for name in names), " ")
    again = tag("a", "stop reloading", href="/") if wish.refresh else tag("a", "reload every 30 s", href="/?refresh=30")
    when = f"As of {live.time}" if live.time else "As of now"
    return tag("footer", tag("p", text(when), " · ", again), tag("p", "JSON: ", links, " ",
               tag("a", "metrics", href="/metrics")), tag("p", f"mergenode {mergenode.__version__}"))  # fmt: skip
