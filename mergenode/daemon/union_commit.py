"""A new union: the sum on disk, then the facts that name it. And what the manifest of a union lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mergenode.daemon.contribute import Line, tidy
from mergenode.daemon.manifest import LISTED_CONTRIBUTIONS
from mergenode.daemon.union_facts import admitted
from mergenode.ledger.records import Admitted, Fact, Member, Retracted, United
from mergenode.ledger.union import Node, Selection, Union, contributions
from mergenode.ports.ledger_store import LedgerReader
from mergenode.ports.uniter import Uniter
from mergenode.types import Digest, Head

UNITED = "united"
"""What ``Restated.how`` says of a union."""


@dataclass(slots=True)
class Shown:
    """What the newest union holds, kept in memory."""

    members: dict[Digest, Admitted] = field(default_factory=dict)

    def load(self, ledger: LedgerReader) -> None:
        """From the facts, at the start."""
        self.members = {fact.content: fact for _, fact in ledger.members() if isinstance(fact, Admitted)}

    def compared(self, selection: Selection) -> tuple[int, bool]:
        """How many contents a union of this selection brings anew, and whether some are gone."""
        came = len(selection.owners.keys() - self.members.keys())
        return came, len(selection.owners) - came < len(self.members)


def commit_union(
    line: Line, uniter: Uniter, selection: Selection, shown: Shown, own: tuple[Node, Head], known: Union
) -> United:
    """Add up the selected parts and commit the sum. ``line``: of the union; ``own``: the node and its own merge.

    Durability: the returned fact is in the ledger of the union. Raises TransientError when it should be tried again.
    """
    head, started = line.ledger.head(), line.clock.monotonic()
    line.generations.recover(head.generation)
    done = uniter.unite(selection, own[0], own[1], line.observer)
    now = line.clock.now()
    facts = [*_changes(selection, shown.members, known, now)]
    fact = United(
        time=now,
        generation=head.generation + 1,
        count=len(selection.owners),
        totals=done.totals,
        statistics=done.statistics,
        lineage=selection.lineage,
        how=UNITED,
        seconds=line.clock.monotonic() - started,
        bytes_read=done.bytes_read,
        bytes_written=done.bytes_written,
        parts=tuple(
            {"node": part.node, "statistics": part.statistics, "lineage": part.lineage, "count": len(part.entries)}
            for part in selection.parts
        ),
    )
    # The files first, then the facts that name them: see ``contribute``.
    line.generations.install(fact.generation)
    line.ledger.append(*facts, fact)
    line.observer.fact(fact)
    for each in facts:
        if isinstance(each, Admitted):
            shown.members[each.content] = each
        elif isinstance(each, Retracted) and each.content not in selection.owners:
            del shown.members[each.content]
    tidy(line, lambda: line.generations.retire(fact.generation))
    return fact


def _changes(selection: Selection, shown: Mapping[Digest, Admitted], known: Union, now: str) -> Iterator[Fact]:
    """What left the union, and what came; what counts by another part now does both."""
    wanted = {content: admitted(content, node, entry, now) for content, node, entry in contributions(selection)}
    for content, fact in sorted(shown.items()):
        there = wanted.get(content)
        if there is not None and _same(there, fact):
            del wanted[content]
            continue
        why = f"counts by node {there.origin} now" if there is not None else _why_gone(known, content, fact)
        yield Retracted(
            time=now, registry=fact.registry, name=fact.name, revision=fact.revision, content=content, why=why
        )
    yield from wanted.values()


def _same(one: Admitted, other: Admitted) -> bool:
    return (one.origin, one.weight, dict(one.profile)) == (other.origin, other.weight, dict(other.profile))


def _why_gone(known: Union, content: Digest, fact: Admitted) -> str:
    ruling = known.rulings.get(content)
    if ruling is not None and ruling.out:
        return f"retracted by node {ruling.node}" + (f": {ruling.why}" if ruling.why else "")
    return f"node {fact.origin} counts it no more"


@dataclass(frozen=True, slots=True)
class CanonicalMembers:
    """Implements ``Listed`` for a union: the first contributions in the order of their contents, on every node."""

    shown: Shown

    def of(self, ledger: LedgerReader, head: Head) -> tuple[Member, ...]:
        first = sorted(self.shown.members)[:LISTED_CONTRIBUTIONS]
        return tuple(self.shown.members[content] for content in first)

    def parts(self, ledger: LedgerReader) -> Sequence[Mapping[str, Any]]:
        newest = ledger.facts(kinds=["united"], newest=1)
        return [dict(part) for _, fact in newest if isinstance(fact, United) for part in fact.parts]
