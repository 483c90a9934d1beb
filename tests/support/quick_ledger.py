"""A ledger in memory that is fast enough for thousands of schedules: indexes as on disk, the same rules, no chain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from mergenode.errors import FatalError
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
from mergenode.ledger.transitions import Position, advance, objections
from mergenode.types import Digest, Head

Key = tuple[str, str, str]


class QuickLedger:
    """Implements ``LedgerStore``. ``durable`` is called before and after every append; what it raises, dies there."""

    def __init__(self, durable: Callable[[str], None] = lambda what: None) -> None:
        self.durable = durable
        self.recorded: list[tuple[int, Fact]] = []
        self._kinds: dict[str, list[tuple[int, Fact]]] = {}
        self._members: dict[Digest, tuple[int, Member]] = {}
        self._latest: dict[Digest, Fact] = {}
        self._held: dict[Digest, Held] = {}
        self._releases: dict[Digest, Released] = {}
        self._refusals: dict[Digest, Rejected] = {}
        self._outcomes: dict[Key, ContributionFact] = {}
        self._available: dict[int, Published] = {}
        self._position = Position()

    def append(self, *facts: Fact) -> int:
        self.durable("append")
        for fact in facts:
            if found := objections(self._position, fact, self):
                raise FatalError(f"{fact} cannot be appended: {'; '.join(found)}")
            self._take_in(fact)
        assert not self._position.restating
        self.durable("append done")
        return len(self.recorded)

    def _take_in(self, fact: Fact) -> None:
        self._position = advance(self._position, fact)
        pair = (len(self.recorded) + 1, fact)
        self.recorded.append(pair)
        self._kinds.setdefault(fact.kind, []).append(pair)
        if isinstance(fact, Quarantined | Rejected | Retracted) and fact.content is not None:
            self._releases.pop(fact.content, None)
        elif isinstance(fact, Released):
            self._releases[fact.content] = fact
        if isinstance(fact, Held):
            self._held[fact.content] = fact
            self._refusals.pop(fact.content, None)
        if isinstance(fact, Folded | Admitted | Rejected) and fact.content is not None:
            self._held.pop(fact.content, None)
            self._refusals.pop(fact.content, None)
        if isinstance(fact, Rejected) and fact.content is not None:
            self._refusals[fact.content] = fact
        if isinstance(fact, ContributionFact):
            self._outcomes[(fact.registry, fact.name, fact.revision)] = fact
        if isinstance(fact, Folded | Admitted):
            self._members[fact.content] = (pair[0], fact)
        elif isinstance(fact, Left):
            del self._members[fact.content]
        if isinstance(fact, Folded | Admitted | Retracted):
            self._latest[fact.content] = fact
        elif isinstance(fact, Published):
            self._available[fact.version] = fact
        elif isinstance(fact, Pruned):
            for version in fact.versions:
                del self._available[version]

    def folded_as(self, content: Digest) -> str | None:
        return self._members[content][1].name if content in self._members else None

    def is_available(self, version: int) -> bool:
        return version in self._available

    def initialised(self) -> Initialised | None:
        found = self._kinds.get("initialised")
        return found[0][1] if found else None  # type: ignore[return-value]  # of that kind

    def head(self) -> Head:
        rows = [self._kinds[kind][-1] for kind in ("folded", "restated", "united") if kind in self._kinds]
        newest = max(rows, key=lambda row: row[0])[1] if rows else None
        published = self._kinds["published"][-1][1] if "published" in self._kinds else None
        return head_after(newest, published)  # type: ignore[arg-type]  # of those kinds

    def outcomes(self, keys: Iterable[Key]) -> Mapping[Key, ContributionFact]:
        return {key: self._outcomes[key] for key in keys if key in self._outcomes}

    def discovered(self, keys: Iterable[Key]) -> Mapping[Key, int]:
        wanted, found = set(keys), {}
        for sequence, fact in self._kinds.get("discovered", []):
            key = (fact.registry, fact.name, fact.revision) if isinstance(fact, Discovered) else None
            if key in wanted:
                found.setdefault(key, sequence)
        return found  # type: ignore[return-value]  # None is in no set of keys

    def by_content(self, content: Digest) -> Member | None:
        return self._members[content][1] if content in self._members else None

    def held(self, content: Digest) -> Held | None:
        return self._held.get(content)

    def release(self, content: Digest) -> Released | None:
        return self._releases.get(content)

    def refusal(self, content: Digest) -> Rejected | None:
        """Nothing is refused by content in the worlds that this is for, unless it was recorded as such."""
        return self._refusals.get(content)

    def quarantine(self, newest: int | None = None, *, kind: str | None = None) -> Sequence[tuple[int, Held]]:
        held = {id(fact) for fact in self._held.values() if kind in (None, fact.kind)}
        found = [pair for pair in self.recorded if id(pair[1]) in held] if held else []
        return found if newest is None else found[-newest:]  # type: ignore[return-value]  # they are held

    def quarantine_size(self) -> int:
        return len(self.quarantine(kind="quarantined"))

    def retraction(self, content: Digest) -> Retracted | None:
        fact = self._latest.get(content)
        return fact if isinstance(fact, Retracted) else None

    def members(self, after: int = 0) -> Iterator[tuple[int, Member]]:
        yield from [found for found in self._members.values() if found[0] > after]

    def newest_members(self, count: int) -> Sequence[tuple[int, Member]]:
        found = list(self._members.values())
        return found[max(0, len(found) - count) :]

    def facts(
        self, *, kinds: Sequence[str] = (), name: str | None = None, newest: int | None = None
    ) -> Sequence[tuple[int, Fact]]:
        rows = sorted((row for kind in kinds for row in self._kinds.get(kind, [])), key=lambda row: row[0])
        found = (rows if kinds else self.recorded)[:]
        found = [row for row in found if name is None or getattr(row[1], "name", None) == name]
        return found if newest is None else found[max(0, len(found) - newest) :]

    def folds(self, after: int = 0) -> Iterator[tuple[int, Folded]]:
        yield from (row for row in self._kinds.get("folded", []) if row[0] > after)  # type: ignore[misc]  # of that kind

    def history(self) -> Iterator[tuple[int, Fact]]:
        yield from (row for row in self.recorded if isinstance(row[1], Folded | Admitted | Left | Restated))

    def counts(self) -> Mapping[str, int]:
        return dict(Counter({kind: len(rows) for kind, rows in self._kinds.items()}))

    def versions(self) -> Sequence[Published]:
        return list(self._available.values())

    def verify(self) -> Sequence[str]:
        return []

    def close(self) -> None:
        """Nothing is open."""
