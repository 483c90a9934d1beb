"""Durable writes: the one place that knows how bytes become safe.

The discipline is always the same: write under a private name, sync the file, rename, sync the directory. A reader sees
the old content or the new, and after a return the new content survives a power loss.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mergenode.errors import TransientError, TransientReason

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_COPY_BYTES = 1 << 20


@contextmanager
def disk_errors(path: Path | str) -> Iterator[None]:
    """Turn the operating system's write errors into transient errors that say what to do."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        if error.errno in _FULL:
            raise TransientError(
                TransientReason.DISK_FULL,
                f"{where}: no space left ({os.strerror(error.errno or 0)})",
                hint="Free space on that file system or lower publish.keep; the work goes on where it stopped.",
            ) from error
        raise TransientError(
            TransientReason.WRITE_FAILED,
            f"{where}: {error.strerror or error}",
            hint="Check that the file system is mounted, writable and healthy; the work is tried again.",
        ) from error


def write_all(fd: int, data: memoryview | bytes, offset: int) -> None:
    """Write the whole buffer at ``offset``; short writes are continued."""
    view = memoryview(data)
    while view.nbytes:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written


def sync_directory(path: Path | str) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_file(path: Path, data: bytes, *, private: bool = False) -> None:
    """Set the content of a file, atomically and durably. ``private``: nobody but the owner may read it.

    Durability: content and name are synced on return. Idempotence: the same call twice leaves the same file.
    """
    temporary = path.with_name(f".{path.name}.new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600 if private else 0o644)
    try:
        if private:
            os.fchmod(fd, 0o600)  # the file of an interrupted call keeps the mode that it was made with
        write_all(fd, data, 0)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(temporary, path)
    sync_directory(path.parent)


def rename_directory(source: Path, target: Path) -> None:
    """Move a finished directory to its visible name, durably. The target must not exist."""
    os.rename(source, target)
    sync_directory(target.parent)
    if source.parent != target.parent:
        sync_directory(source.parent)


def link_directory(source: Path, target: Path) -> None:
    """Make ``target`` a directory of second names for the files of ``source``, which has no directories.

    Durability: files of ``source`` must be synced; the names are on return. Idempotence: what ``target`` held is gone.
    """
    remove_tree(target)
    target.mkdir(parents=True)
    for name in sorted(os.listdir(source)):
        os.link(source / name, target / name)
    sync_directory(target)
    sync_directory(target.parent)


def copy_directory(source: Path, target: Path) -> None:
    """Copy the files of ``source``, which has no directories, into the new directory ``target``.

    Durability: content and names are synced on return. Idempotence: what ``target`` held is gone.
    """
    remove_tree(target)
    target.mkdir(parents=True)
    for name in sorted(os.listdir(source)):
        with open(source / name, "rb") as original, open(target / name, "wb") as copy:
            shutil.copyfileobj(original, copy, _COPY_BYTES)
            copy.flush()
            os.fsync(copy.fileno())
    sync_directory(target)
    sync_directory(target.parent)


def point_symlink(link: Path, target: str) -> None:
    """Make ``link`` point at ``target`` (a relative name), atomically and durably."""
    if link.is_symlink() and os.readlink(link) == target:
        return
    temporary = link.with_name(f".{link.name}.new")
    temporary.unlink(missing_ok=True)
    os.symlink(target, temporary)
    os.replace(temporary, link)
    sync_directory(link.parent)


def remove_tree(path: Path) -> None:
    """Remove a directory with everything in it; nothing happens when it is not there.

    It is renamed first, so that no reader ever sees half of it under its name.
    """
    if path.is_symlink():
        path.unlink()  # what it leads to belongs to whoever put the link here
        return
    if not path.exists():
        return
    if not path.name.startswith("."):
        hidden = path.with_name(f".{path.name}.removing")
        if hidden.exists():
            shutil.rmtree(hidden)
        os.rename(path, hidden)
        path = hidden
    shutil.rmtree(path)


def tree_bytes(path: Path) -> int:
    """Bytes that the regular files below a directory occupy, hard links counted once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for directory, _, names in os.walk(path):
        for name in names:
            try:
                status = os.lstat(Path(directory) / name)
            except FileNotFoundError:
                continue
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_size
    return total


def free_bytes(path: Path) -> int:
    """Bytes that this process may still write on the file system of ``path`` (or its nearest existing parent)."""
    while not path.exists() and path != path.parent:
        path = path.parent
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize
