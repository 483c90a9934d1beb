"""Which fact may follow which: the rules of the ledger, told as objections.

- ``initialised`` is the first fact, and there is only one.
- ``folded`` advances the generation by one and the count by one, and never folds a content twice.
- ``published`` advances the version by one, publishes the committed generation, and each generation once.
- ``pruned`` names versions that are still available, never the newest.

Everything else (``discovered``, ``rejected``, ``duplicate``) may follow anything but the start.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from mergenode.ledger.records import Fact, Folded, Initialised, Pruned, Published
from mergenode.types import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a ledger stands after its facts so far."""

    initialised: bool = False
    generation: int = 0
    count: int = 0
    published_generation: int = 0
    version: int = 0


class History(Protocol):
    """The two questions that need more than the position: they are asked before the fact enters."""

    def folded_as(self, content: Digest) -> str | None:
        """The name under which this content was folded, or None."""
        ...

    def is_available(self, version: int) -> bool:
        """True when this version was published and not pruned."""
        ...


def advance(position: Position, fact: Fact) -> Position:
    """The position after ``fact``. Total: defined after objections too, so that an audit can go on."""
    match fact:
        case Initialised():
            return replace(position, initialised=True)
        case Folded(generation=generation, count=count):
            return replace(position, generation=generation, count=count)
        case Published(generation=generation, version=version):
            return replace(position, published_generation=generation, version=version)
        case _:
            return position


def objections(position: Position, fact: Fact, history: History) -> tuple[str, ...]:
    """Why ``fact`` cannot come next, in sentences; empty when it can."""
    if isinstance(fact, Initialised):
        return ("initialised a second time",) if position.initialised else ()
    if not position.initialised:
        return (f"a {fact.kind} fact before the ledger was initialised",)
    match fact:
        case Folded():
            return tuple(_against_folded(position, fact, history))
        case Published():
            return tuple(_against_published(position, fact))
        case Pruned():
            return tuple(_against_pruned(position, fact, history))
        case _:
            return ()


def _against_folded(position: Position, fact: Folded, history: History) -> Iterator[str]:
    if fact.generation != position.generation + 1:
        yield f"generation {fact.generation} folded after generation {position.generation}"
    if fact.count != position.count + 1:
        yield f"{fact.count} contributions counted after {position.count}"
    if (name := history.folded_as(fact.content)) is not None:
        yield f"content {fact.content} folded a second time, first as {name!r}"


def _against_published(position: Position, fact: Published) -> Iterator[str]:
    if fact.version != position.version + 1:
        yield f"version {fact.version} published after version {position.version}"
    if fact.generation != position.generation:
        yield f"generation {fact.generation} published while generation {position.generation} was committed"
    elif fact.generation <= position.published_generation:
        yield f"generation {fact.generation} published a second time"


def _against_pruned(position: Position, fact: Pruned, history: History) -> Iterator[str]:
    if len(set(fact.versions)) != len(fact.versions) or not fact.versions:
        yield f"pruned versions {list(fact.versions)}: none, or one of them twice"
    for version in fact.versions:
        if version == position.version:
            yield f"version {version} pruned while it was the newest"
        elif not history.is_available(version):
            yield f"version {version} pruned although it was not available"
