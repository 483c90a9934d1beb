"""A part as the text that travels beside its statistics: canonical JSON, read as strictly as a stranger deserves."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from typing import Any, TypeVar
from uuid import UUID

from mergenode.errors import RejectedError, RejectReason
from mergenode.ledger.canonical import canonical, parse
from mergenode.ledger.union import Entry, Node, Part, Ruling
from mergenode.types import Digest, Kind

FORMAT = "mergenode.part/1"
MOST_BYTES = 16 << 20
MOST_CONTRIBUTIONS = 50_000
"""In one part: contents, names and weights of all of them travel with every change."""
MOST_RULINGS = 20_000
MOST_NODES = 1_000
TEXT_CHARACTERS = 300
"""Of a name or a reason; longer ones are cut when they are sent."""

_MOST_BRACKETS = 4 * (MOST_CONTRIBUTIONS + MOST_RULINGS)
_MOST_TOTALS, _MOST_PROFILE, _MOST_COUNT = 64, 256, 1 << 53
_DIGEST = re.compile(r"(blake3|blake2b):[0-9a-f]{64}")
_KEYS = {
    "format", "node", "base", "method", "options", "generation", "last", "statistics", "lineage", "totals",
    "contributions", "standby", "fixed", "rulings", "forgotten",
}  # fmt: skip

T = TypeVar("T")


def encode_part(part: Part) -> bytes:
    """The text of a part; what the head says (position, root) and what was measured (norm) is not in it.

    Raises RejectedError (TOO_LARGE) when it holds more than others would read.
    """
    rows = [[content, *_entry_row(part.entries[content])] for content in sorted(part.entries)]
    rulings = [[r.content, r.number, r.said, r.node, _cut(r.why)] for r in sorted(part.rulings.values())]
    text = canonical({
        "format": FORMAT, "node": part.node, "base": part.base, "method": part.method, "options": part.options,
        "generation": part.generation, "last": part.last, "statistics": part.statistics, "lineage": part.lineage,
        "totals": part.totals, "contributions": rows, "standby": sorted(part.standby), "fixed": sorted(part.fixed),
        "rulings": rulings, "forgotten": [[node, part.forgotten[node]] for node in sorted(part.forgotten)],
    }).encode("ascii")  # fmt: skip
    sizes = (
        (len(rows), MOST_CONTRIBUTIONS, "contributions"), (len(part.standby), MOST_CONTRIBUTIONS, "waiting contents"),
        (len(rulings), MOST_RULINGS, "rulings"), (len(part.forgotten), MOST_NODES, "forgotten nodes"),
        (len(text), MOST_BYTES, "bytes of text"),
    )  # fmt: skip
    for size, most, what in sizes:
        if size > most:
            raise RejectedError(
                RejectReason.TOO_LARGE,
                f"this node's part has {size} {what}; {most} are what others read",
                hint="Start a new state directory on the published version: what it merged so far becomes its base.",
            )
    return text


def decode_part(data: bytes) -> Part:
    """The part of this text. Raises RejectedError (HEADER_INVALID) when it is none; the message says where."""
    try:
        return _decoded(data)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise RejectedError(
            RejectReason.HEADER_INVALID, f"the text of the part is not {FORMAT}: {str(error)[:200]}"
        ) from error


def _decoded(data: bytes) -> Part:
    if len(data) > MOST_BYTES:
        raise ValueError(f"{len(data)} bytes, {MOST_BYTES} are allowed")
    text = data.decode("ascii")
    # Before anything is built: the memory that JSON takes follows from its containers.
    if text.count("[") + text.count("{") > _MOST_BRACKETS or text.count(",") > 16 * _MOST_BRACKETS:
        raise ValueError("more lists than contributions and rulings can have")
    found = _mapping(parse(text), "the text")
    if found.get("format") != FORMAT or found.keys() != _KEYS:
        raise ValueError(f"format {str(found.get('format'))[:40]!r}, keys {sorted(found)[:20]}")
    canonical(found["options"])  # they are compared by their text later on: not nested too deeply
    entries = dict(_entry(row) for row in _list(found["contributions"], MOST_CONTRIBUTIONS, "contributions"))
    if len(entries) != len(found["contributions"]):
        raise ValueError("a contribution is there twice")
    rulings = {r.content: r for r in map(_ruling, _list(found["rulings"], MOST_RULINGS, "rulings"))}
    forgotten = dict(map(_forgotten, _list(found["forgotten"], MOST_NODES, "forgotten")))
    return Part(
        node=_node(found["node"]),
        base=_digest(found["base"], "base"),
        method=_text(found["method"], "method"),
        options=_mapping(found["options"], "options"),
        generation=_whole(found["generation"], "generation"),
        last=_maybe(_digest, found["last"], "last"),
        statistics=_maybe(_digest, found["statistics"], "statistics"),
        lineage=_maybe(_digest, found["lineage"], "lineage"),
        totals={_text(name, "totals"): _finite(value, name) for name, value in _few(found["totals"]).items()},
        entries=entries,
        standby=_digests(found["standby"], "standby"),
        fixed=_digests(found["fixed"], "fixed"),
        rulings=rulings,
        forgotten=forgotten,
    )


def _entry_row(entry: Entry) -> list[Any]:
    names = [_cut(text) for text in (entry.registry, entry.name, entry.revision)]
    numbers = [float(entry.weight), float(entry.norm), float(entry.relative_norm)]
    return [*names, entry.kind, *numbers, dict(entry.profile)]


def _entry(row: Any) -> tuple[Digest, Entry]:
    content, registry, name, revision, kind, weight, norm, relative, profile = _list(row, 9, "a contribution")
    factors = _mapping(profile, "profile")
    if len(factors) > _MOST_PROFILE:
        raise ValueError(f"a profile with {len(factors)} patterns")
    entry = Entry(
        registry=_text(registry, "registry"),
        name=_text(name, "name"),
        revision=_text(revision, "revision"),
        kind=Kind(kind).value,
        weight=_finite(weight, "weight"),
        norm=_mass(norm, "norm"),
        relative_norm=_mass(relative, "relative norm"),
        profile=tuple(sorted((_text(name, "profile"), _finite(factor, name)) for name, factor in factors.items())),
    )
    return _digest(content, "content"), entry


def _ruling(row: Any) -> Ruling:
    content, number, said, node, why = _list(row, 5, "a ruling")
    if not _whole(number, "the number of a ruling") > 0:
        raise ValueError("a ruling with the number 0")
    return Ruling(_digest(content, "content"), number, _text(said, "time"), _node(node), _text(why, "reason"))


def _forgotten(row: Any) -> tuple[Node, int]:
    node, incarnation = _list(row, 2, "a forgotten node")
    return _node(node), _whole(incarnation, "incarnation")


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_CHARACTERS else text[: TEXT_CHARACTERS - 3] + "..."


def _list(value: Any, most: int, what: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"{what}: not a list of at most {most}")
    return value


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what}: not an object")
    return value


def _few(value: Any) -> Mapping[str, Any]:
    totals = _mapping(value, "totals")
    if len(totals) > _MOST_TOTALS:
        raise ValueError(f"{len(totals)} totals")
    return totals


def _maybe(read: Callable[[Any, str], T], value: Any, what: str) -> T | None:
    return None if value is None else read(value, what)


def _digest(value: Any, what: str) -> Digest:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise ValueError(f"{what}: not a digest")
    return Digest(value)


def _digests(value: Any, what: str) -> frozenset[Digest]:
    return frozenset(_digest(item, what) for item in _list(value, MOST_CONTRIBUTIONS, what))


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or len(value) > TEXT_CHARACTERS:
        raise ValueError(f"{what}: not a text of at most {TEXT_CHARACTERS} characters")
    return value


def _node(value: Any) -> Node:
    if not isinstance(value, str) or str(UUID(value)) != value:
        raise ValueError("not the id of a node")
    return value


def _whole(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _MOST_COUNT:
        raise ValueError(f"{what}: not a whole number of at least 0")
    return value


def _finite(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(f"{what}: not a finite number")
    return float(value)


def _mass(value: Any, what: str) -> float:
    number = _finite(value, what)
    if number < 0:
        raise ValueError(f"{what}: below 0")
    return number


def same_merge(part: Part, *, base: Digest, method: str, options: Mapping[str, Any]) -> str:
    """Why this part cannot be added to a merge of this base, method and options; empty when it can."""
    wanted: Iterable[tuple[str, Any, Any]] = (("base", part.base, base), ("method", part.method, method))
    for what, theirs, ours in wanted:
        if theirs != ours:
            return f"its {what} is {theirs}, ours is {ours}"
    return "" if canonical(part.options) == canonical(options) else f"its options of {method} are other ones"
