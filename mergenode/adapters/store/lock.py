"""One daemon per state directory: an advisory lock that the kernel releases with its process.

POSIX record locks belong to a process: a forked child does not inherit them, and closing *any* descriptor of
the file in the holding process drops them. So this process keeps a table of the locks it holds: ``read_lock``
reads through the descriptor that is open already, and a second lock in one process is refused by the table.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from mergenode.adapters.store.lock_file import LockOwner, is_locked, read_record, write_block, write_record
from mergenode.errors import FatalError

_FILE = "lock"

_FileId = tuple[int, int]
"""device, inode"""

_held: dict[_FileId, int] = {}
"""Descriptors of the locks that this process holds."""

_table_mutex = threading.Lock()


class StateLock:
    """The exclusive right to write a state directory, until ``close``. Not shared with forks."""

    def __init__(self, state_dir: Path, *, node: str = "") -> None:
        """Take the lock without waiting; the directory (private) and the lock file are created when missing.

        Durability: the record with the new epoch is synced before this returns.

        Raises:
            FatalError: another process (or this one) holds it, named by pid and host; or it cannot be taken.
        """
        self._path = state_dir / _FILE
        with _table_mutex:
            try:
                state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._descriptor, self._owner = _acquire(self._path, node)
                self._file_id = _file_id(os.fstat(self._descriptor))
            except OSError as error:
                raise _unusable(self._path, error) from error
            _held[self._file_id] = self._descriptor

    @property
    def epoch(self) -> int:
        """How often this directory was locked, this time included: larger than that of any holder before."""
        return self._owner.epoch

    @property
    def killed(self) -> int:
        """How many holders in a row before this one ended without giving the lock back."""
        return self._owner.killed

    def close(self) -> None:
        """Release the lock. Idempotent; does nothing in a forked child, which never held it."""
        with _table_mutex:
            descriptor = _held.get(self._file_id)
            if descriptor is not None and descriptor == self._descriptor:
                del _held[self._file_id]
                with suppress(OSError):  # full or read-only by now: the next holder only hears less
                    write_block(descriptor, replace(self._owner, ended=True))
                os.close(descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_lock(state_dir: Path) -> LockOwner | None:
    """Who holds the lock of a state directory, or held it last; None when it was never locked. Takes no lock.

    Raises:
        FatalError: the lock file is not readable, or not a lock file.
    """
    path = state_dir / _FILE
    with _table_mutex:
        try:
            if (held := _descriptor_held_here(path)) is not None:
                return read_record(held, path, held=True)
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise FatalError(
                f"cannot see who holds the state directory {state_dir}: {error}",
                hint="run this as the user that the node runs as: the lock file is that user's alone",
            ) from error
        except OSError as error:
            raise _unusable(path, error) from error
        try:
            return read_record(descriptor, path, held=is_locked(descriptor))
        finally:
            os.close(descriptor)


def _acquire(path: Path, node: str) -> tuple[int, LockOwner]:
    """Open and lock the file, record the new owner; returns the open descriptor and the record."""
    # The table is asked before the file is opened: closing that descriptor would drop the lock it tells of.
    if (held := _descriptor_held_here(path)) is not None:
        raise _in_use(path, read_record(held, path, held=True))
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if not _locked(descriptor):
            raise _in_use(path, read_record(descriptor, path, held=True))
        before = read_record(descriptor, path, held=False)
        owner = LockOwner(
            pid=os.getpid(),
            host=socket.gethostname(),
            epoch=1 if before is None else before.epoch + 1,
            node=node,
            held=True,
            killed=0 if before is None or before.ended else before.killed + 1,
        )
        write_record(descriptor, owner)
        _sync_directory(path.parent)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, owner


def _descriptor_held_here(path: Path) -> int | None:
    try:
        return _held.get(_file_id(path.lstat()))
    except FileNotFoundError:
        return None


def _file_id(status: os.stat_result) -> _FileId:
    return (status.st_dev, status.st_ino)


def _locked(descriptor: int) -> bool:
    """Lock the file if nobody else has."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _in_use(path: Path, owner: LockOwner | None) -> FatalError:
    who = "another process" if owner is None else f"process {owner.pid} on {owner.host}"
    node = f" (node {owner.node})" if owner is not None and owner.node else ""
    return FatalError(
        f"the state directory {path.parent} is in use by {who}{node}",
        hint="stop that process, or give this node a state directory of its own (`node.state`)",
    )


def _unusable(path: Path, error: OSError) -> FatalError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FatalError(
            f"cannot lock the state directory {path.parent}: No space left on its file system",
            hint="free space there and start the node again; nothing was lost",
        )
    return FatalError(
        f"cannot lock the state directory {path.parent}: {error}",
        hint="check that the directory exists, is writable, and lies on a file system with POSIX locks",
    )


def _forget_in_child() -> None:
    """A forked child holds no lock; its copies of the descriptors only keep files open."""
    global _table_mutex  # noqa: PLW0603 - another thread may have held it while the process was forked
    _table_mutex = threading.Lock()
    for descriptor in _held.values():
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget_in_child)
