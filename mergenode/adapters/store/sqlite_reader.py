"""The questions a ledger file answers, each by an index: the cost does not grow with the number of facts."""

from __future__ import annotations

import heapq
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mergenode.adapters.store.schema import stored_text
from mergenode.adapters.store.sqlite_audit import audit_file
from mergenode.adapters.store.sqlite_errors import reading
from mergenode.ledger.codec import decode
from mergenode.ledger.head import head_after
from mergenode.ledger.records import (
    KINDS,
    ContributionFact,
    Fact,
    Folded,
    Held,
    Initialised,
    Member,
    Published,
    Rejected,
    Released,
    Restated,
    Retracted,
)
from mergenode.ports.ledger_store import Key
from mergenode.types import Digest, Head

_PAGE = 64
"""Folded facts carry reports of some kilobytes each; a page of them is read per query."""

_MEMBERS = "SELECT facts.sequence, facts.body FROM members JOIN facts ON facts.sequence = members.sequence"
_HELD = "SELECT facts.sequence, facts.body FROM quarantine JOIN facts ON facts.sequence = quarantine.sequence"


class SqliteReader:
    """Implements ``LedgerReader`` over an open connection, which it owns.

    Any thread may ask: one lock guards the connection and is held for one question at a time. Every answer is
    taken from one committed state, also while another process appends. Methods raise
    TransientError(read_failed) when the disk fails and FatalError when the file is damaged or holds facts of
    a newer mergenode.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._mutex = threading.Lock()

    def initialised(self) -> Initialised | None:
        """The first fact, None in an empty ledger."""
        with self._snapshot():
            fact = self._newest("initialised")
        return fact if isinstance(fact, Initialised) else None

    def head(self) -> Head:
        """The committed running merge, both halves from the same moment."""
        with self._snapshot():
            return self._head()

    def outcomes(self, keys: Iterable[Key]) -> Mapping[Key, ContributionFact]:
        """The newest fact about each of these revisions."""
        found: dict[Key, ContributionFact] = {}
        with self._snapshot():
            for key in keys:
                row = self._one(
                    "SELECT sequence, body FROM facts WHERE registry = ? AND name = ? AND revision = ?"
                    " ORDER BY sequence DESC LIMIT 1",
                    *map(stored_text, key),
                )
                fact = row and decode(row[1], row[0])
                if isinstance(fact, ContributionFact):
                    found[key] = fact
        return found

    def discovered(self, keys: Iterable[Key]) -> Mapping[Key, int]:
        """The sequence number of the first ``discovered`` fact about each of these revisions."""
        found: dict[Key, int] = {}
        with self._snapshot():
            for key in keys:
                row = self._one(
                    "SELECT sequence FROM facts WHERE registry = ? AND name = ? AND revision = ?"
                    " AND kind = 'discovered' ORDER BY sequence LIMIT 1",
                    *map(stored_text, key),
                )
                if row is not None:
                    found[key] = row[0]
        return found

    def by_content(self, content: Digest) -> Member | None:
        """The fact by which this content entered the merge, whatever it was called; None when it is not in it."""
        with self._snapshot():
            row = self._one(
                "SELECT facts.sequence, facts.body FROM members JOIN facts ON facts.sequence = members.sequence"
                " WHERE members.content = ?",
                stored_text(content),
            )
        fact = row and decode(row[1], row[0])
        return fact if isinstance(fact, Member) else None

    def retraction(self, content: Digest) -> Retracted | None:
        """The newest retraction of this content, None when it was never retracted or is in the merge again."""
        with self._snapshot():
            row = self._one(
                "SELECT sequence, body FROM facts WHERE content = ? AND kind IN ('folded', 'admitted', 'retracted')"
                " ORDER BY sequence DESC LIMIT 1",
                stored_text(content),
            )
        fact = row and decode(row[1], row[0])
        return fact if isinstance(fact, Retracted) else None

    def held(self, content: Digest) -> Held | None:
        """The newest fact about this content while it is in quarantine, or released and not folded yet."""
        with self._snapshot():
            row = self._one(_HELD + " WHERE quarantine.content = ?", stored_text(content))
        fact = row and decode(row[1], row[0])
        return fact if isinstance(fact, Held) else None

    def release(self, content: Digest) -> Released | None:
        """The release of this content, None where it was refused, held back or retracted since."""
        with self._snapshot():
            row = self._one(
                "SELECT sequence, body FROM facts WHERE content = ?"
                " AND kind IN ('released', 'quarantined', 'rejected', 'retracted') ORDER BY sequence DESC LIMIT 1",
                stored_text(content),
            )
        fact = row and decode(row[1], row[0])
        return fact if isinstance(fact, Released) else None

    def refusal(self, content: Digest) -> Rejected | None:
        """The refusal that names this content, None where a fold or a quarantine came after it."""
        with self._snapshot():
            row = self._one(
                "SELECT sequence, body FROM facts WHERE content = ?"
                " AND kind IN ('folded', 'admitted', 'rejected', 'quarantined', 'released')"
                " ORDER BY sequence DESC LIMIT 1",
                stored_text(content),
            )
        fact = row and decode(row[1], row[0])
        return fact if isinstance(fact, Rejected) else None

    def quarantine(self, newest: int | None = None, *, kind: str | None = None) -> Sequence[tuple[int, Held]]:
        """What is held, one fact per content, oldest first."""
        limit = -1 if newest is None else newest
        with self._snapshot():
            rows = self._rows(
                _HELD + " WHERE ? IN (facts.kind, '') ORDER BY quarantine.sequence DESC LIMIT ?", kind or "", limit
            )
        found = [(sequence, decode(body, sequence)) for sequence, body in reversed(rows)]
        return [(sequence, fact) for sequence, fact in found if isinstance(fact, Held)]

    def quarantine_size(self) -> int:
        """How many contents are in quarantine; no fact is read."""
        with self._snapshot():
            row = self._one(
                "SELECT COUNT(*) FROM quarantine JOIN facts ON facts.sequence = quarantine.sequence"
                " WHERE facts.kind = 'quarantined'"
            )
        return int(row[0]) if row else 0

    def members(self, after: int = 0) -> Iterator[tuple[int, Member]]:
        """What is in the merge, oldest first, a page at a time without a lock in between."""
        while True:
            with self._snapshot():
                page = self._rows(
                    _MEMBERS + " WHERE members.sequence > ? ORDER BY members.sequence LIMIT ?", after, _PAGE
                )
            yield from _decoded_members(page)
            if len(page) < _PAGE:
                return
            after = page[-1][0]

    def newest_members(self, count: int) -> Sequence[tuple[int, Member]]:
        """The ``count`` contributions that entered the merge last, oldest of them first."""
        with self._snapshot():
            rows = self._rows(_MEMBERS + " ORDER BY members.sequence DESC LIMIT ?", count)
        return list(_decoded_members(rows[::-1]))

    def facts(
        self, *, kinds: Sequence[str] = (), name: str | None = None, newest: int | None = None
    ) -> Sequence[tuple[int, Fact]]:
        """Facts with their sequence numbers, oldest first. Without ``newest`` all that match are read."""
        limit = -1 if newest is None else newest
        with self._snapshot():
            if not kinds and name is None:
                rows = self._rows("SELECT sequence, body FROM facts ORDER BY sequence DESC LIMIT ?", limit)
            else:
                # One index range per kind, merged here: one query would sort, or scan past other kinds.
                ranges = [self._range(kind, name, limit) for kind in dict.fromkeys(kinds or KINDS)]
                rows = list(heapq.merge(*ranges, reverse=True))
        kept = rows if newest is None else rows[:newest]
        return [(sequence, decode(body, sequence)) for sequence, body in reversed(kept)]

    def folds(self, after: int = 0) -> Iterator[tuple[int, Folded]]:
        """Every ``folded`` fact beyond sequence ``after``, oldest first, a page at a time without a lock."""
        for sequence, fact in self._streamed("kind = 'folded'", after):
            if isinstance(fact, Folded):
                yield sequence, fact

    def history(self) -> Iterator[tuple[int, Fact]]:
        """Every fact that changed the merge, oldest first, a page at a time without a lock."""
        kinds = "'folded', 'admitted', 'retracted', 'yielded', 'deselected', 'restated', 'united'"
        return self._streamed(f"kind IN ({kinds})", 0)

    def _streamed(self, which: str, after: int) -> Iterator[tuple[int, Fact]]:
        while True:
            with self._snapshot():
                page = self._rows(
                    f"SELECT sequence, body FROM facts WHERE {which} AND sequence > ? ORDER BY sequence LIMIT ?",  # noqa: S608 - literals
                    after,
                    _PAGE,
                )
            for sequence, body in page:
                yield sequence, decode(body, sequence)
            if len(page) < _PAGE:
                return
            after = page[-1][0]

    def counts(self) -> Mapping[str, int]:
        """How many facts of each kind that occurs."""
        with self._snapshot():
            return dict(self._rows("SELECT kind, facts FROM counts ORDER BY kind"))

    def versions(self) -> Sequence[Published]:
        """Published versions whose files were not pruned, oldest first."""
        with self._snapshot():
            rows = self._rows(
                "SELECT facts.sequence, facts.body FROM versions"
                " JOIN facts ON facts.sequence = versions.sequence"
                " WHERE versions.pruned = 0 ORDER BY versions.version"
            )
        found = [decode(body, sequence) for sequence, body in rows]
        return [fact for fact in found if isinstance(fact, Published)]

    def verify(self) -> Sequence[str]:
        """Read the whole file again; returns what is wrong, naming facts by sequence, empty when all is well.

        Works on a connection of its own, so that neither appends nor questions wait for it.
        """
        return audit_file(self._path)

    def close(self) -> None:
        """Close the file. Idempotent."""
        with self._mutex:
            self._connection.close()

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """All queries inside see one committed state."""
        with self._mutex, reading(self._path):
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, values).fetchall()

    def _one(self, query: str, *values: object) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._connection.execute(query, values).fetchone()
        return row

    def _range(self, kind: str, name: str | None, limit: int) -> list[tuple[Any, ...]]:
        if name is None:
            return self._rows(
                "SELECT sequence, body FROM facts WHERE kind = ? ORDER BY sequence DESC LIMIT ?", kind, limit
            )
        return self._rows(
            "SELECT sequence, body FROM facts WHERE name = ? AND kind = ? ORDER BY sequence DESC LIMIT ?",
            stored_text(name),
            kind,
            limit,
        )

    def _newest(self, kind: str) -> Fact | None:
        rows = self._range(kind, None, 1)
        return decode(rows[0][1], rows[0][0]) if rows else None

    def _head(self) -> Head:
        """The newest fact about the merge is a fold, a restatement or a union, whichever came last."""
        rows = sorted(row for kind in ("folded", "restated", "united") for row in self._range(kind, None, 1))
        newest = decode(rows[-1][1], rows[-1][0]) if rows else None
        published = self._newest("published")
        return head_after(
            newest if isinstance(newest, Folded | Restated) else None,
            published if isinstance(published, Published) else None,
        )


def _decoded_members(rows: Iterable[tuple[int, str]]) -> Iterator[tuple[int, Member]]:
    for sequence, body in rows:
        fact = decode(body, sequence)
        if isinstance(fact, Member):
            yield sequence, fact
