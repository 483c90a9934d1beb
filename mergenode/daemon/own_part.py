"""A node's own part of a union, kept in step with its ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mergenode.ledger.records import (
    Deferred,
    Fact,
    Folded,
    Initialised,
    Left,
    Member,
    Quarantined,
    Rejected,
    Restated,
    Retracted,
    Standby,
    Yielded,
)
from mergenode.ledger.union import Entry, Node, Part, Ruling
from mergenode.ports.ledger_store import LedgerReader
from mergenode.types import Digest, Head

_WAITING = ("retracted", "yielded", "deferred")


@dataclass(slots=True)
class OwnPart:
    """What the ledger says of the own merge. ``said`` counts what others have to hear at once.

    ``unable``: contents that could not be taken out (``fixed`` of the part) or folded again. In memory alone: after a
    restart it is tried once more.
    """

    ledger: LedgerReader
    node: Node
    origin: Initialised
    standby: dict[Digest, Standby] = field(default_factory=dict)
    unable: set[Digest] = field(default_factory=set)
    head: Head = field(default_factory=Head)
    said: int = 0
    waited: int = 0
    _entries: dict[Digest, Entry] = field(default_factory=dict)
    _after: int = 0

    def load(self) -> None:
        """From the facts, at the start."""
        waiting = {
            fact.content: fact
            for _, fact in self.ledger.facts(kinds=_WAITING)
            if isinstance(fact, Retracted | Yielded | Deferred)
        }
        keys = {(fact.registry, fact.name, fact.revision) for fact in waiting.values()}
        refused = {key for key, fact in self.ledger.outcomes(keys).items() if isinstance(fact, Rejected | Quarantined)}
        self.standby = {
            content: fact
            for content, fact in waiting.items()
            if isinstance(fact, Standby)
            and (fact.registry, fact.name, fact.revision) not in refused
            and self.ledger.by_content(content) is None
        }
        self._reload()

    def recorded(self, facts: Sequence[Fact]) -> None:
        """These facts are in the ledger now."""
        for fact in facts:
            match fact:
                case Yielded():
                    self.standby[fact.content] = fact
                case Deferred():
                    self.standby[fact.content] = fact
                    self.waited += 1
                case Folded() | Retracted():
                    self.standby.pop(fact.content, None)
                case Rejected() | Quarantined():
                    self._drop(fact)
        if any(isinstance(fact, Left | Restated) for fact in facts):
            self._reload()
            self.said += 1
        elif any(isinstance(fact, Folded) for fact in facts):
            self._advance()

    def cannot(self, content: Digest) -> None:
        """It could not be taken out, or not be folded again."""
        self.unable.add(content)
        self.said += 1

    def can_again(self) -> None:
        """The operator said where files are: what failed may be tried again."""
        if self.unable:
            self.unable.clear()
            self.said += 1

    def part(self, rulings: Mapping[Digest, Ruling], forgotten: Mapping[Node, int]) -> Part:
        """The part as it is now."""
        return Part(
            node=self.node,
            base=self.origin.base,
            method=self.origin.method,
            options=self.origin.options,
            generation=self.head.generation,
            statistics=self.head.statistics,
            lineage=self.head.lineage,
            totals=self.head.totals,
            entries=dict(self._entries),
            standby=frozenset(self.standby.keys() - self.unable),
            fixed=frozenset(self._entries.keys() & self.unable),
            rulings=rulings,
            forgotten=forgotten,
        )

    def _drop(self, fact: Rejected | Quarantined) -> None:
        key = (fact.registry, fact.name, fact.revision)
        gone = [c for c, waits in self.standby.items() if (waits.registry, waits.name, waits.revision) == key]
        for content in gone:
            del self.standby[content]
            self.said += 1

    def _reload(self) -> None:
        self._entries.clear()
        self._after = 0
        self._advance()

    def _advance(self) -> None:
        self.head = self.ledger.head()
        for sequence, member in self.ledger.members(self._after):
            self._entries[member.content] = entry_of(member)
            self._after = sequence


def entry_of(member: Member) -> Entry:
    """A contribution as a part lists it."""
    return Entry(
        registry=member.registry,
        name=member.name,
        revision=member.revision,
        kind=member.contribution_kind,
        weight=member.weight,
        norm=member.norm,
        relative_norm=member.relative_norm,
        profile=tuple(sorted(member.profile.items())),
    )
