"""SQLite's errors in the project's terms: which can be waited out, which need the operator."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mergenode.errors import FatalError, TransientError, TransientReason

_PASSING = (
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
)
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)
_DAMAGE_HINT = (
    "run `mergenode verify` to see what is lost, then restore the file from a backup; "
    "published versions are not affected"
)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Translate what a read may raise: TransientError(read_failed), or FatalError for damage."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if (translated := _translated(error, path, TransientReason.READ_FAILED)) is not None:
            raise translated from error
        raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Translate what a write may raise: TransientError(disk_full, write_failed), or FatalError for damage."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if (translated := _translated(error, path, TransientReason.WRITE_FAILED)) is not None:
            raise translated from error
        raise


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """Translate what opening may raise. A file that cannot be opened needs the operator: FatalError."""
    try:
        yield
    except (sqlite3.DatabaseError, OSError) as error:
        if isinstance(error, sqlite3.DatabaseError) and is_damage(error):
            raise _damaged(error, path) from error
        raise FatalError(
            f"cannot open the ledger {path}: {error}",
            hint="check that the file and its directory exist and that this user may use them",
        ) from error


def is_damage(error: sqlite3.Error) -> bool:
    """True when the file itself is broken. A page that is missing at the end counts, too."""
    code = _code(error)
    return code & 0xFF in _DAMAGE or code == sqlite3.SQLITE_IOERR_SHORT_READ


def _code(error: sqlite3.Error) -> int:
    """The extended result code; 0 for errors that Python's module raised by itself."""
    return getattr(error, "sqlite_errorcode", 0)


def _damaged(error: sqlite3.Error, path: Path) -> FatalError:
    return FatalError(f"the ledger {path} is damaged: {error}", hint=_DAMAGE_HINT)


def _translated(
    error: sqlite3.DatabaseError, path: Path, passing: TransientReason
) -> TransientError | FatalError | None:
    """None for an error that is the program's own (a closed connection, a wrong statement)."""
    if is_damage(error):
        return _damaged(error, path)
    primary = _code(error) & 0xFF
    if primary == sqlite3.SQLITE_FULL:
        return TransientError(
            TransientReason.DISK_FULL,
            f"the ledger {path} cannot grow: {error}",
            hint="free space on the file system of the state directory",
        )
    if primary in _PASSING:
        return TransientError(
            passing,
            f"the ledger {path} cannot be used now: {error}",
            hint=f"check the disk that holds {path.parent}",
        )
    if primary == sqlite3.SQLITE_CONSTRAINT:
        return FatalError(f"the ledger {path} refuses a fact: {error}", hint="please report this message")
    return None
