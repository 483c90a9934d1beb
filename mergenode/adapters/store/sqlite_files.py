"""Creating and opening ledger files. A ledger appears whole under its name or not at all."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from mergenode.adapters.store.schema import MIGRATIONS, migrate, schema_version
from mergenode.adapters.store.sqlite_errors import opening
from mergenode.errors import FatalError

_BUSY_SECONDS = 5.0
_WAL_LIMIT_BYTES = 16 * 1024 * 1024
"""The write-ahead log is cut back to this after a checkpoint: one long read must not cost disk for ever."""


def connect_writer(path: Path) -> sqlite3.Connection:
    """Open the ledger for writing, creating it when there is none, bringing it to the current schema.

    Durability: on return the file and its directory entry are synced. Idempotence: what a killed creation
    left behind is removed. An existing file is never replaced, not even an empty one: emptiness is damage.

    Raises:
        FatalError: damaged, not a ledger, newer than this mergenode, or not accessible.
    """
    with opening(path):
        if not path.exists():
            _create(path)
        connection = _connect(str(path), uri=False)
        try:
            # Asked before anything is set: a file that is not ours is left as it is.
            version = schema_version(connection, path)
            _configure(connection, path)
            migrate(connection, version)
        except BaseException:
            connection.close()
            raise
        return connection


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Open an existing ledger for reading, next to a process that writes it or without one, from a directory that may
    not be written too (another user's, a read-only mount).

    Raises:
        FatalError: there is no ledger, or it is damaged, of another schema version, or not accessible.
    """
    if not path.exists():
        raise FatalError(
            f"there is no ledger at {path}", hint="start the node once, or check `node.state` in the settings"
        )
    with opening(path):
        still = "&immutable=1" if _lies_still(path) else ""
        connection = _connect(f"file:{quote(str(path.absolute()))}?mode=ro{still}", uri=True)
        try:
            version = schema_version(connection, path)
            if version != len(MIGRATIONS):
                raise FatalError(
                    f"{path} has schema version {version}, this mergenode reads version {len(MIGRATIONS)}",
                    hint="start the node once with this mergenode: it brings the ledger up to date",
                )
        except BaseException:
            connection.close()
            raise
        return connection


def _lies_still(path: Path) -> bool:
    """Whether nobody has the ledger open, and we may not put what SQLite shares with writers beside it.

    Without that it refuses to read, unless it is told that the file does not change. Then a writer that starts while
    the file is read is not noticed: a command that takes long (``verify``) may have to be given again.
    """
    shared = [path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-shm")]
    return not any(file.exists() for file in shared) and not os.access(path.parent, os.W_OK, effective_ids=True)


def _connect(database: str, *, uri: bool) -> sqlite3.Connection:
    """Transactions are written out by the caller; threads are kept apart by the caller's lock."""
    return sqlite3.connect(database, uri=uri, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def _configure(connection: sqlite3.Connection, path: Path) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise FatalError(
            f"the file system of {path} does not support write-ahead logging (journal mode {mode})",
            hint="put the state directory on a local file system",
        )
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
    connection.execute("PRAGMA trusted_schema = OFF")


def _create(path: Path) -> None:
    """Build an empty ledger beside its final name, sync it, rename it into place, sync the directory."""
    orphan = path.with_name(f"{path.name}-wal")
    if orphan.exists():
        raise FatalError(
            f"{path} is missing while {orphan.name} is still there",
            hint="restore the ledger from a backup, or move the leftover files away to start an empty one",
        )
    fresh = path.with_name(f"{path.name}.new")
    for leftover in (
        fresh,
        *(fresh.with_name(f"{fresh.name}{suffix}") for suffix in ("-wal", "-shm", "-journal")),
    ):
        leftover.unlink(missing_ok=True)
    with closing(_connect(str(fresh), uri=False)) as connection:
        _configure(connection, fresh)
        migrate(connection, 0)
    _sync(fresh)
    fresh.rename(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
