"""The top of the page: is it well, what needs somebody, and the six figures that are asked for first."""

from __future__ import annotations

from collections.abc import Sequence

from mergenode.adapters.http.live import Live
from mergenode.adapters.http.page.attention import Matter, headline
from mergenode.adapters.http.page.drift import Place, drift_words
from mergenode.adapters.http.page.markup import EMPTY, Child, Markup, joined, size, tag
from mergenode.adapters.http.page.recent import Recent
from mergenode.adapters.http.page.wording import UNKNOWN, ago, number


def glance_section(recent: Recent, live: Live, found: Sequence[Matter], located: Sequence[Place]) -> Markup:
    look, words = headline(found, live)
    told = tag("ul", *map(_matter, found), class_="matters") if found else EMPTY
    tiles = tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in _tiles(recent, live, located)),
                class_="tiles")  # fmt: skip
    return tag("section", tag("h2", words, class_=f"state {look}"), told, tiles, _facts(recent, live), id="glance")


def _matter(matter: Matter) -> Markup:
    what = tag("a", matter.what, href=f"#{matter.anchor}") if matter.anchor else tag("span", matter.what)
    return tag("li", what, tag("span", matter.next, class_="next"), class_=matter.level)


def _tiles(recent: Recent, live: Live, located: Sequence[Place]) -> list[tuple[str, Child]]:
    waiting = sum(state.pending for state in live.registries)
    unsettled = sum(state.unsettled_total for state in live.registries)
    published = recent.versions[-1].time if recent.versions else ""
    tiles: list[tuple[str, Child]] = [
        ("Version", _number(recent.head.version or "none", _when(published, live))),
        _work_done(recent, live),
        ("Waiting", _number(waiting, f"{unsettled} not complete" if unsettled else "")),
        ("In quarantine", _number(recent.in_quarantine, "")),
        ("Distance", drift_words(located) or UNKNOWN),
    ]
    if live.disk is not None:
        used = f"free; statistics {size(live.disk.statistics_bytes)}, versions {size(live.disk.published_bytes)}"
        tiles.append(("Disk", _number(size(live.disk.free_bytes), used)))
    return tiles


def _work_done(recent: Recent, live: Live) -> tuple[str, Child]:
    """Of a node that mixes in rounds the newest round, of another one its contributions."""
    if recent.rounds and not recent.folds:
        newest = recent.rounds[-1]
        return "Round", _number(
            newest.number, f"{_when(newest.time, live)}, consensus distance {number(newest.spread)}"
        )
    folded = recent.folds[-1].time if recent.folds else ""
    return "In the merge", _number(recent.head.count, _when(folded, live, "last "))


def _number(value: int | str, small: str) -> Markup:
    return joined([str(value), tag("small", small) if small else EMPTY])


def _when(time: str, live: Live, before: str = "") -> str:
    if not time:
        return ""
    when = ago(time, live.time)
    return f"{before}{when}" if when else time


def _facts(recent: Recent, live: Live) -> Markup:
    if recent.origin is None:
        return tag("p", "Base and method are not known yet: the node has not read its base.", class_="note")
    options = {name: value for name, value in recent.origin.options.items() if not isinstance(value, list)}
    shown = ", ".join(f"{name} {value}" for name, value in options.items() if value is not None)
    method = tag("b", recent.origin.method), f" ({shown})" if shown else ""
    base = tag("code", recent.origin.base[:23], title=recent.origin.base)
    when = f". As of {live.time}." if live.time else "."
    return tag("p", "Method ", *method, " on the base ", base, when, class_="note")
