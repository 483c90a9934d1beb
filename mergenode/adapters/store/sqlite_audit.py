"""Reading a ledger file from end to end: its pages, its facts, and the tables that follow from them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from mergenode.adapters.store.schema import columns
from mergenode.adapters.store.sqlite_errors import is_damage, reading
from mergenode.adapters.store.sqlite_files import connect_read_only
from mergenode.ledger.audit import Audit
from mergenode.ledger.chain import Entry
from mergenode.ledger.records import Fact

_MOST_FINDINGS = 1000
_COLUMNS = ("kind", "registry", "name", "revision", "content", "time")


def audit_file(path: Path) -> list[str]:
    """What is wrong with the ledger file, in sentences that name facts by sequence; empty when all is well.

    Reads one committed state on a connection of its own and changes nothing. Memory: see ``Audit``.

    Raises:
        TransientError: the disk fails. FatalError: the file cannot be opened at all.
    """
    findings: list[str] = []
    with reading(path), closing(connect_read_only(path)) as connection:
        connection.execute("BEGIN")
        try:
            for finding in islice(_findings(connection), _MOST_FINDINGS):
                findings.append(finding)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            findings.append(f"the file is damaged, facts beyond this point cannot be read: {error}")
    if len(findings) >= _MOST_FINDINGS:
        findings.append(f"only the first {_MOST_FINDINGS} findings are listed")
    return findings


def _findings(connection: sqlite3.Connection) -> Iterator[str]:
    for (line,) in connection.execute("PRAGMA integrity_check(20)"):
        if line != "ok":
            yield f"the file is damaged: {line}"
    audit = Audit()
    rows = connection.execute(
        f"SELECT sequence, {', '.join(_COLUMNS)}, body, previous, hash FROM facts ORDER BY sequence"  # noqa: S608 - literals
    )
    for sequence, *stored, body, previous, own in rows:
        if not all(isinstance(text, str) for text in (body, previous, own)):
            yield f"fact {sequence}: body or hashes are not text"
            continue
        fact, findings = audit.examine(Entry(sequence, body, previous, own))
        yield from findings
        if fact is not None:
            yield from _column_findings(sequence, fact, stored)
    yield from _derived_findings(connection, audit)


def _column_findings(sequence: int, fact: Fact, stored: list[Any]) -> Iterator[str]:
    for column, expected, found in zip(_COLUMNS, (fact.kind, *columns(fact), fact.time), stored, strict=True):
        if found != expected:
            yield f"fact {sequence}: column {column} holds {found!r}, the body says {expected!r}"


def _derived_findings(connection: sqlite3.Connection, audit: Audit) -> Iterator[str]:
    counts = dict(connection.execute("SELECT kind, facts FROM counts"))
    yield from _differences("facts of kind", counts, audit.counts)
    members = dict(connection.execute("SELECT content, sequence FROM members"))
    yield from _differences("the fact that took in content", members, audit.members)
    held = dict(connection.execute("SELECT content, sequence FROM quarantine"))
    yield from _differences("the fact that holds content", held, audit.held)
    if audit.restating:
        yield "the last fact changed members and was never restated"
    available = dict(connection.execute("SELECT version, sequence FROM versions WHERE pruned = 0"))
    yield from _differences("the fact that published version", available, audit.available)


def _differences(what: str, stored: Mapping[Any, int], found: Mapping[Any, int]) -> Iterator[str]:
    for key in sorted(stored.keys() | found.keys(), key=str):
        if stored.get(key) != found.get(key):
            yield f"{what} {key}: {stored.get(key)} on record, {found.get(key)} by reading the facts"
