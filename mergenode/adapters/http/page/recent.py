"""What the page reads of the ledger: the newest facts, a bounded number of them however long the history is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from mergenode.ledger.records import (
    Admitted,
    Fact,
    Folded,
    Initialised,
    Left,
    Member,
    Mixed,
    Pruned,
    Published,
    Quarantined,
    Rejected,
    Selected,
    United,
)
from mergenode.ports.ledger_store import LedgerReader
from mergenode.types import Digest, Head

WHOLE_MODEL = "*"
SHOWN = 50
"""Rows per table; the rest is in the documents."""
FOLDS = 200
"""Contributions at most whose figures the page has."""
LEAST_FOLDS = 24
"""As many at least, however many layer groups the model has."""
GROUP_REPORTS = 8000
"""Layer groups of all those contributions together, roughly: reports are what costs time to read."""
CHANGES_PER_FOLD = 2
"""Of versions: one made, one removed. Of the merge: something else than a fold, and one thing more."""
ROUNDS, SELECTIONS = 60, 20

_OF_VERSIONS = ("published", "pruned")
_OF_THE_MERGE = ("admitted", "retracted", "yielded", "deselected", "restated")
_Kind = TypeVar("_Kind", bound=Fact)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """Facts are oldest first.

    ``changes``: folds and what else changed the merge, in their order, and between them the versions that show them. Of
    a node in a union they are without versions: those follow from ``united``. ``cut``: there was more before the first.
    """

    origin: Initialised | None
    head: Head
    folds: tuple[Folded, ...]
    changes: tuple[Fact, ...]
    versions: tuple[Published, ...]
    pruned: frozenset[int]
    united: tuple[United, ...]
    members: tuple[Member, ...]
    rounds: tuple[Mixed, ...]
    selections: tuple[Selected, ...]
    rejected: tuple[Rejected, ...]
    quarantined: tuple[Quarantined, ...]
    in_quarantine: int
    cut: bool


def read_recent(reader: LedgerReader) -> Recent:
    """A constant number of questions, each with a bound on the facts that answer it."""
    folds, asked = _folds(reader)
    bound = CHANGES_PER_FOLD * asked
    united = reader.facts(kinds=(United.kind,), newest=asked)
    versions = reader.facts(kinds=_OF_VERSIONS, newest=bound)
    others = reader.facts(kinds=_OF_THE_MERGE, newest=bound)
    # A union has a ledger of its own: places in it say nothing about places in the node's.
    told: list[tuple[Sequence[tuple[int, Fact]], int]] = [
        (folds, asked),
        (others, bound),
        *([] if united else [(versions, bound)]),
    ]
    first = max(found[0][0] if len(found) == limit else 0 for found, limit in told)
    merged = sorted((each for found, _ in told for each in found), key=lambda found: found[0])
    changes = tuple(fact for sequence, fact in merged if sequence >= first)
    held = reader.quarantine(SHOWN, kind=Quarantined.kind)
    return Recent(
        origin=reader.initialised(),
        head=reader.head(),
        folds=tuple(fact for _, fact in folds),
        changes=changes,
        versions=_of(Published, versions),
        pruned=frozenset(version for fact in _of(Pruned, versions) for version in fact.versions),
        united=_of(United, united),
        members=tuple(fact for _, fact in reader.newest_members(SHOWN)) if united else still_in(changes)[-SHOWN:],
        rounds=_newest(reader, Mixed, ROUNDS),
        selections=_newest(reader, Selected, SELECTIONS),
        rejected=_newest(reader, Rejected, SHOWN),
        quarantined=_of(Quarantined, held),
        in_quarantine=reader.quarantine_size(),
        cut=first > 0,
    )


def still_in(changes: Iterable[Fact]) -> tuple[Member, ...]:
    """Of the contributions that entered, those that did not leave since, in the order in which they entered."""
    found: dict[Digest, Member] = {}
    for fact in changes:
        if isinstance(fact, Folded | Admitted):
            found[fact.content] = fact
        elif isinstance(fact, Left):
            found.pop(fact.content, None)
    return tuple(found.values())


def whole(fold: Folded) -> Mapping[str, Any]:
    """The report on the whole model; empty where there is none."""
    return next((group for group in fold.groups if group.get("group") == WHOLE_MODEL), {})


def figure(report: Mapping[str, Any], name: str) -> float | None:
    """A number of a report, None where it is not defined."""
    value = report.get(name)
    return None if value is None else float(value)


def _folds(reader: LedgerReader) -> tuple[Sequence[tuple[int, Folded]], int]:
    newest = _numbered(reader, 1)
    groups = max(1, len(newest[0][1].groups)) if newest else 1
    asked = max(LEAST_FOLDS, min(FOLDS, GROUP_REPORTS // groups))
    return _numbered(reader, asked), asked


def _numbered(reader: LedgerReader, count: int) -> list[tuple[int, Folded]]:
    found = reader.facts(kinds=(Folded.kind,), newest=count)
    return [(sequence, fact) for sequence, fact in found if isinstance(fact, Folded)]


def _newest(reader: LedgerReader, kind: type[_Kind], count: int) -> tuple[_Kind, ...]:
    return _of(kind, reader.facts(kinds=(kind.kind,), newest=count))


def _of(kind: type[_Kind], found: Iterable[tuple[int, Fact]]) -> tuple[_Kind, ...]:
    return tuple(fact for _, fact in found if isinstance(fact, kind))
