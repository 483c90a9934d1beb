"""Tables of the ledger file, and how a file of an earlier version becomes one of this version.

``facts`` is the ledger; the columns beside ``body`` repeat parts of it so that questions are answered by an
index. ``counts``, ``versions``, ``members`` (what is in the merge, and the fact by which it entered) and ``quarantine``
follow from ``facts`` and change in the same transaction; ``verify`` compares them.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from mergenode.errors import FatalError
from mergenode.ledger.records import (
    Admitted,
    ContributionFact,
    Deferred,
    Duplicate,
    Fact,
    Folded,
    Left,
    Quarantined,
    Rejected,
    Released,
)

APPLICATION_ID = 0x6D67_6E64
"""``mgnd``, in the header of the file: tells a ledger from any other SQLite file."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE facts (
            sequence INTEGER PRIMARY KEY,
            kind TEXT NOT NULL,
            registry TEXT,
            name TEXT,
            revision TEXT,
            content TEXT,
            time TEXT NOT NULL,
            body TEXT NOT NULL,
            previous TEXT NOT NULL,
            hash TEXT NOT NULL
        )""",
        "CREATE INDEX facts_by_kind ON facts (kind, sequence)",
        "CREATE INDEX facts_by_name ON facts (name, kind, sequence) WHERE name IS NOT NULL",
        "CREATE INDEX facts_by_revision ON facts (registry, name, revision, sequence) WHERE name IS NOT NULL",
        # The last line of defence of the first promise: no content is folded twice, whatever the caller did.
        "CREATE UNIQUE INDEX folded_once ON facts (content) WHERE kind = 'folded'",
        "CREATE TABLE counts (kind TEXT PRIMARY KEY, facts INTEGER NOT NULL) WITHOUT ROWID",
        """CREATE TABLE versions (
            version INTEGER PRIMARY KEY,
            sequence INTEGER NOT NULL,
            pruned INTEGER NOT NULL
        )""",
        "CREATE INDEX versions_available ON versions (version) WHERE pruned = 0",
    ),
    (
        # A retracted content may be folded again; what is in the merge is there once. The primary key is the last line
        # of defence of that promise, whatever the caller did.
        "DROP INDEX folded_once",
        "CREATE TABLE members (content TEXT PRIMARY KEY, sequence INTEGER NOT NULL UNIQUE) WITHOUT ROWID",
        "INSERT INTO members SELECT content, sequence FROM facts WHERE kind = 'folded'",
        "CREATE INDEX facts_by_content ON facts (content, sequence) WHERE content IS NOT NULL",
    ),
    # What is in quarantine, or released and not folded yet. No earlier ledger has facts about either.
    ("CREATE TABLE quarantine (content TEXT PRIMARY KEY, sequence INTEGER NOT NULL UNIQUE) WITHOUT ROWID",),
)
"""One tuple of statements per schema version, oldest first; ``PRAGMA user_version`` counts those applied."""

Column = str | bytes | None
_WITH_CONTENT = (Folded, Duplicate, Rejected, Left, Admitted, Deferred, Quarantined, Released)


def columns(fact: Fact) -> tuple[Column, Column, Column, Column]:
    """registry, name, revision, content as they are stored; None where the kind has no such field."""
    content = fact.content if isinstance(fact, _WITH_CONTENT) else None
    stored_content = None if content is None else stored_text(content)
    if not isinstance(fact, ContributionFact):
        return (None, None, None, stored_content)
    return (stored_text(fact.registry), stored_text(fact.name), stored_text(fact.revision), stored_content)


def stored_text(text: str) -> str | bytes:
    """``text`` itself, or bytes where it is not valid Unicode: a file name may hold any byte, a TEXT column
    may not.

    SQLite never finds TEXT equal to a BLOB, so distinct texts stay distinct.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def schema_version(connection: sqlite3.Connection, path: Path) -> int:
    """The schema version of an open ledger file.

    Raises:
        FatalError: not a ledger, or one that a newer mergenode wrote.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID or version < 1:
        raise FatalError(
            f"{path} is not a mergenode ledger, or was emptied",
            hint="restore it from a backup, or give the node another state directory",
        )
    if version > len(MIGRATIONS):
        raise FatalError(
            f"{path} has schema version {version}; this mergenode knows versions up to {len(MIGRATIONS)}",
            hint="install the mergenode that wrote it, or a newer one",
        )
    return int(version)


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Apply what is missing beyond ``version``.

    Durability: one transaction per step, so a process killed in between leaves a complete earlier version.
    """
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number}")
