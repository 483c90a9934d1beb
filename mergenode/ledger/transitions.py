"""Which fact may follow which: the rules of the ledger, told as objections.

- ``initialised`` is the first fact, and there is only one.
- ``folded`` advances the generation by one and the count by one, and never folds a content that is in the merge.
- ``retracted``, ``yielded`` and ``deselected`` take out a content that is in the merge, ``admitted`` takes in one that
  is not; they are followed by more of their kind and then by ``restated``, which advances the generation by one, all in
  one append.
- ``united`` is such a ``restated`` that may also follow when no content came or went: the same sum, rounded otherwise.
- ``mixed`` counts rounds one by one.
- ``published`` advances the version by one, and publishes the committed generation, each once, or the newest round.
- ``pruned`` names versions that are still available, never the newest.
- ``quarantined`` and ``released`` are about a content that is not in the merge.

Everything else (``discovered``, ``rejected``, ``duplicate``, ``selected``, ``scored``, what nodes say to each other)
may follow anything but the start.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from mergenode.ledger.records import (
    Admitted,
    Fact,
    Folded,
    Initialised,
    Left,
    Mixed,
    Pruned,
    Published,
    Quarantined,
    Released,
    Restated,
    United,
)
from mergenode.types import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a ledger stands after its facts so far. ``restating``: members changed, ``restated`` is due. ``round``:
    number of the newest round, None before the first; ``published_round``: that of the newest version, None where it
    has none."""

    initialised: bool = False
    generation: int = 0
    count: int = 0
    published_generation: int = 0
    version: int = 0
    restating: bool = False
    round: int | None = None
    published_round: int | None = None


class History(Protocol):
    """The two questions that need more than the position: they are asked before the fact enters."""

    def folded_as(self, content: Digest) -> str | None:
        """The name under which this content is in the merge, or None."""
        ...

    def is_available(self, version: int) -> bool:
        """True when this version was published and not pruned."""
        ...


def advance(position: Position, fact: Fact) -> Position:
    """The position after ``fact``. Total: defined after objections too, so that an audit can go on."""
    changes: dict[str, Any] = {}
    match fact:
        case Initialised():
            changes = {"initialised": True}
        case Folded(generation=generation, count=count):
            changes = {"generation": generation, "count": count}
        case Left() | Admitted():
            step = 1 if isinstance(fact, Admitted) else -1
            changes = {"count": position.count + step, "restating": True}
        case Restated(generation=generation, count=count):
            changes = {"generation": generation, "count": count, "restating": False}
        case Mixed(number=number):
            changes = {"round": number}
        case Published(generation=generation, version=version, round=number):
            changes = {"published_generation": generation, "version": version, "published_round": number}
    return replace(position, **changes)


def objections(position: Position, fact: Fact, history: History) -> tuple[str, ...]:
    """Why ``fact`` cannot come next, in sentences; empty when it can."""
    if isinstance(fact, Initialised):
        return ("initialised a second time",) if position.initialised else ()
    if not position.initialised:
        return (f"a {fact.kind} fact before the ledger was initialised",)
    if position.restating and not isinstance(fact, Left | Admitted | Restated):
        return (f"a {fact.kind} fact where the changed members were to be restated",)
    return tuple(_against(position, fact, history))


def _against(position: Position, fact: Fact, history: History) -> Iterator[str]:
    match fact:
        case Left() | Admitted():
            yield from _against_member(fact, history)
        case Restated():
            yield from _against_restated(position, fact)
        case Folded():
            yield from _against_folded(position, fact, history)
        case Mixed():
            yield from _against_mixed(position, fact)
        case Published():
            yield from _against_published(position, fact)
        case Pruned():
            yield from _against_pruned(position, fact, history)
        case Quarantined() | Released():
            if (name := history.folded_as(fact.content)) is not None:
                yield f"content {fact.content} {fact.kind} although it is in the merge as {name!r}"


def _against_folded(position: Position, fact: Folded, history: History) -> Iterator[str]:
    if fact.generation != position.generation + 1:
        yield f"generation {fact.generation} folded after generation {position.generation}"
    if fact.count != position.count + 1:
        yield f"{fact.count} contributions counted after {position.count}"
    if (name := history.folded_as(fact.content)) is not None:
        yield f"content {fact.content} folded although it is in the merge as {name!r}"


def _against_member(fact: Left | Admitted, history: History) -> Iterator[str]:
    name = history.folded_as(fact.content)
    if isinstance(fact, Admitted) and name is not None:
        yield f"content {fact.content} admitted although it is in the merge as {name!r}"
    if isinstance(fact, Left) and name is None:
        yield f"content {fact.content} {fact.kind} although it is not in the merge"


def _against_restated(position: Position, fact: Restated) -> Iterator[str]:
    if not (position.restating or isinstance(fact, United)):
        yield "restated although no member changed"
    if fact.generation != position.generation + 1:
        yield f"generation {fact.generation} restated after generation {position.generation}"
    if fact.count != position.count:
        yield f"{fact.count} contributions restated where {position.count} are in the merge"


def _against_mixed(position: Position, fact: Mixed) -> Iterator[str]:
    due = 0 if position.round is None else position.round + 1
    if fact.number != due:
        yield f"round {fact.number} mixed where round {due} was due"


def _against_published(position: Position, fact: Published) -> Iterator[str]:
    if fact.version != position.version + 1:
        yield f"version {fact.version} published after version {position.version}"
    if fact.round is not None:
        yield from _against_published_round(position, fact, fact.round)
        return
    if fact.generation != position.generation:
        yield f"generation {fact.generation} published while generation {position.generation} was committed"
    elif fact.generation <= position.published_generation:
        yield f"generation {fact.generation} published a second time"


def _against_published_round(position: Position, fact: Published, number: int) -> Iterator[str]:
    if fact.generation != position.published_generation:
        yield f"generation {fact.generation} named by a round where {position.published_generation} was published"
    if number != position.round:
        yield f"round {number} published while the newest was {position.round}"
    elif number == position.published_round:
        yield f"round {number} published a second time"


def _against_pruned(position: Position, fact: Pruned, history: History) -> Iterator[str]:
    if len(set(fact.versions)) != len(fact.versions) or not fact.versions:
        yield f"pruned versions {list(fact.versions)}: none, or one of them twice"
    for version in fact.versions:
        if version == position.version:
            yield f"version {version} pruned while it was the newest"
        elif not history.is_available(version):
            yield f"version {version} pruned although it was not available"
