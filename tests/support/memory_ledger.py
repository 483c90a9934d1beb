"""A ledger in memory, by the slowest obvious means: the oracle that the ledger on disk is compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import TypeVar

from mergenode.errors import FatalError
from mergenode.ledger.audit import Audit
from mergenode.ledger.chain import GENESIS, Entry, link
from mergenode.ledger.codec import decode, encode
from mergenode.ledger.head import head_after
from mergenode.ledger.records import (
    Admitted,
    ContributionFact,
    Discovered,
    Fact,
    Folded,
    Held,
    Initialised,
    Left,
    Member,
    Pruned,
    Published,
    Quarantined,
    Rejected,
    Released,
    Restated,
    Retracted,
)
from mergenode.types import Digest, Head

Key = tuple[str, str, str]
F = TypeVar("F", bound=Fact)


class MemoryLedger:
    """Implements ``LedgerStore``. Every question reads all facts; nothing is appended that an audit objects to."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._audit = Audit()
        self._recorded: list[tuple[int, Fact]] = []

    def append(self, *facts: Fact) -> int:
        audit, entries = deepcopy(self._audit), list(self.entries)
        for fact in facts:
            previous = entries[-1].hash if entries else GENESIS
            sequence, body = len(entries) + 1, encode(fact)
            entries.append(Entry(sequence, body, previous, link(previous, sequence, body)))
            if findings := audit.examine(entries[-1])[1]:
                raise FatalError(f"cannot be appended: {'; '.join(findings)}")
        if audit.restating:
            raise FatalError("members changed without a restated fact")
        for entry in entries[len(self.entries) :]:
            self._recorded.append((entry.sequence, decode(entry.body, entry.sequence)))
        self._audit, self.entries = audit, entries
        return len(entries)

    def initialised(self) -> Initialised | None:
        return self._newest(Initialised)

    def head(self) -> Head:
        changes = [fact for _, fact in self._recorded if isinstance(fact, Folded | Restated)]
        return head_after(changes[-1] if changes else None, self._newest(Published))

    def outcomes(self, keys: Iterable[Key]) -> Mapping[Key, ContributionFact]:
        wanted = set(keys)
        return {_key(fact): fact for fact in self._of(ContributionFact) if _key(fact) in wanted}

    def discovered(self, keys: Iterable[Key]) -> Mapping[Key, int]:
        wanted, found = set(keys), {}
        for sequence, fact in self._recorded:
            if isinstance(fact, Discovered) and _key(fact) in wanted:
                found.setdefault(_key(fact), sequence)
        return found

    def by_content(self, content: Digest) -> Member | None:
        return next((fact for _, fact in self.members() if fact.content == content), None)

    def retraction(self, content: Digest) -> Retracted | None:
        changes = [
            fact
            for _, fact in self._recorded
            if isinstance(fact, Folded | Admitted | Retracted) and fact.content == content
        ]
        return changes[-1] if changes and isinstance(changes[-1], Retracted) else None

    def held(self, content: Digest) -> Held | None:
        return next((fact for _, fact in self.quarantine() if fact.content == content), None)

    def release(self, content: Digest) -> Released | None:
        kinds = Released | Quarantined | Rejected | Retracted
        about = [fact for _, fact in self._recorded if isinstance(fact, kinds) and fact.content == content]
        return about[-1] if about and isinstance(about[-1], Released) else None

    def refusal(self, content: Digest) -> Rejected | None:
        kinds = Folded | Admitted | Rejected | Quarantined | Released
        about = [fact for _, fact in self._recorded if isinstance(fact, kinds) and fact.content == content]
        return about[-1] if about and isinstance(about[-1], Rejected) else None

    def quarantine(self, newest: int | None = None, *, kind: str | None = None) -> Sequence[tuple[int, Held]]:
        held: dict[Digest, tuple[int, Held]] = {}
        for sequence, fact in self._recorded:
            if isinstance(fact, Quarantined | Released):
                held[fact.content] = (sequence, fact)
            elif isinstance(fact, Folded | Admitted | Rejected) and fact.content is not None:
                held.pop(fact.content, None)
        found = [each for each in sorted(held.values(), key=lambda entry: entry[0]) if kind in (None, each[1].kind)]
        return found if newest is None else found[len(found) - min(newest, len(found)) :]

    def quarantine_size(self) -> int:
        return len(self.quarantine(kind="quarantined"))

    def members(self, after: int = 0) -> Iterator[tuple[int, Member]]:
        inside: dict[Digest, tuple[int, Member]] = {}
        for sequence, fact in self._recorded:
            if isinstance(fact, Folded | Admitted):
                inside[fact.content] = (sequence, fact)
            elif isinstance(fact, Left):
                del inside[fact.content]
        yield from (found for found in inside.values() if found[0] > after)

    def newest_members(self, count: int) -> Sequence[tuple[int, Member]]:
        found = list(self.members())
        return found[max(0, len(found) - count) :]

    def facts(
        self, *, kinds: Sequence[str] = (), name: str | None = None, newest: int | None = None
    ) -> Sequence[tuple[int, Fact]]:
        found = [
            (sequence, fact)
            for sequence, fact in self._recorded
            if (not kinds or fact.kind in kinds) and (name is None or getattr(fact, "name", None) == name)
        ]
        return found if newest is None else found[len(found) - min(newest, len(found)) :]

    def folds(self, after: int = 0) -> Iterator[tuple[int, Folded]]:
        for sequence, fact in self._recorded:
            if isinstance(fact, Folded) and sequence > after:
                yield sequence, fact

    def history(self) -> Iterator[tuple[int, Fact]]:
        for sequence, fact in self._recorded:
            if isinstance(fact, Folded | Admitted | Left | Restated):
                yield sequence, fact

    def counts(self) -> Mapping[str, int]:
        return dict(Counter(fact.kind for _, fact in self._recorded))

    def versions(self) -> Sequence[Published]:
        gone = {version for fact in self._of(Pruned) for version in fact.versions}
        return [fact for fact in self._of(Published) if fact.version not in gone]

    def verify(self) -> Sequence[str]:
        audit = Audit()
        return [finding for entry in self.entries for finding in audit.examine(entry)[1]]

    def close(self) -> None:
        """Nothing is open."""

    def _of(self, kind: type[F]) -> list[F]:
        return [fact for _, fact in self._recorded if isinstance(fact, kind)]

    def _newest(self, kind: type[F]) -> F | None:
        found = self._of(kind)
        return found[-1] if found else None


def _key(fact: ContributionFact) -> Key:
    return (fact.registry, fact.name, fact.revision)
