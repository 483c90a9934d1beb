"""The ledger on disk: one SQLite file, one writer, any number of readers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mergenode.adapters.store.schema import columns, stored_text
from mergenode.adapters.store.sqlite_errors import writing
from mergenode.adapters.store.sqlite_files import connect_read_only, connect_writer
from mergenode.adapters.store.sqlite_reader import SqliteReader
from mergenode.errors import FatalError
from mergenode.ledger.chain import GENESIS, link
from mergenode.ledger.codec import encode
from mergenode.ledger.records import Admitted, Fact, Folded, Held, Left, Mixed, Pruned, Published, Rejected
from mergenode.ledger.transitions import Position, advance, objections
from mergenode.types import Digest


class SqliteLedger(SqliteReader):
    """Implements ``LedgerStore``. The caller holds the state directory's lock, so no other process writes."""

    def __init__(self, path: Path) -> None:
        """Open the ledger at ``path``, creating it when there is none; see ``connect_writer``."""
        super().__init__(connect_writer(path), path)

    def append(self, *facts: Fact) -> int:
        """Append all of these facts or none; returns the last sequence number (of the ledger, when none are
        given).

        Durability: synced on return. A process killed inside has appended all of them or none.

        Raises:
            TransientError: the disk is full or failing; nothing was appended, the ledger stays usable.
            FatalError: a fact that cannot follow (see ``transitions``) or be encoded; nothing was appended.
        """
        bodies = [(fact, encode(fact)) for fact in facts]
        with self._mutex, writing(self._path), self._transaction():
            tip, previous = self._tip()
            position = self._position(tip)
            for sequence, (fact, body) in enumerate(bodies, start=tip + 1):
                if found := objections(position, fact, self._history):
                    raise FatalError(
                        f"fact {sequence} cannot be appended to {self._path}: {'; '.join(found)}",
                        hint="run `mergenode verify`; if it finds nothing, please report this message",
                    )
                previous = self._insert(sequence, fact, body, previous)
                position = advance(position, fact)
            if position.restating:
                raise FatalError("members changed without a restated fact: nothing was appended")
            return tip + len(bodies)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            # Some failures (a full disk among them) make SQLite roll back by itself.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _tip(self) -> tuple[int, str]:
        row = self._one("SELECT sequence, hash FROM facts ORDER BY sequence DESC LIMIT 1")
        return (row[0], row[1]) if row else (0, GENESIS)

    def _position(self, tip: int) -> Position:
        head, mixed, published = self._head(), self._newest("mixed"), self._newest("published")
        return Position(
            initialised=tip > 0,
            generation=head.generation,
            count=head.count,
            published_generation=head.published_generation,
            version=head.version,
            round=mixed.number if isinstance(mixed, Mixed) else None,
            published_round=published.round if isinstance(published, Published) else None,
        )

    @property
    def _history(self) -> _Indexes:
        return _Indexes(self._connection)

    def _insert(self, sequence: int, fact: Fact, body: str, previous: str) -> str:
        """One row and what follows from it, inside the caller's transaction; returns the fact's hash."""
        own = link(previous, sequence, body)
        self._connection.execute(
            "INSERT INTO facts"
            " (sequence, kind, registry, name, revision, content, time, body, previous, hash)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (sequence, fact.kind, *columns(fact), fact.time, body, previous, own),
        )
        self._connection.execute(
            "INSERT INTO counts (kind, facts) VALUES (?, 1) ON CONFLICT (kind) DO UPDATE SET facts = facts + 1",
            (fact.kind,),
        )
        if isinstance(fact, Held):
            self._connection.execute("REPLACE INTO quarantine VALUES (?, ?)", (stored_text(fact.content), sequence))
        if isinstance(fact, Folded | Admitted | Rejected) and fact.content is not None:
            self._connection.execute("DELETE FROM quarantine WHERE content = ?", (stored_text(fact.content),))
        if isinstance(fact, Folded | Admitted):
            self._connection.execute("INSERT INTO members VALUES (?, ?)", (stored_text(fact.content), sequence))
        if isinstance(fact, Left):
            self._connection.execute("DELETE FROM members WHERE content = ?", (stored_text(fact.content),))
        if isinstance(fact, Published):
            self._connection.execute("INSERT INTO versions VALUES (?, ?, 0)", (fact.version, sequence))
        if isinstance(fact, Pruned):
            self._connection.executemany(
                "UPDATE versions SET pruned = 1 WHERE version = ?", [(version,) for version in fact.versions]
            )
        return own


class _Indexes:
    """``History`` for the transition rules, answered by the indexes inside the running transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def folded_as(self, content: Digest) -> str | None:
        row = self._connection.execute(
            "SELECT name FROM facts JOIN members ON facts.sequence = members.sequence WHERE members.content = ?",
            (stored_text(content),),
        ).fetchone()
        return str(row[0]) if row else None

    def is_available(self, version: int) -> bool:
        row = self._connection.execute("SELECT pruned FROM versions WHERE version = ?", (version,)).fetchone()
        return row is not None and row[0] == 0


def open_reader(path: Path) -> SqliteReader:
    """Open an existing ledger for reading only; the caller closes it. Works while the node writes.

    Raises:
        FatalError: there is no ledger at ``path``, or it is damaged or of another schema version.
    """
    return SqliteReader(connect_read_only(path), path)
