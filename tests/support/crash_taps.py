"""Taps between the program and the operating system: count every durable operation, and let one of them go wrong.

An operation is named ``call path`` relative to the site, with ``#k`` for its k-th occurrence, so that a fault can be
aimed at the same operation again however the numbers shift. What SQLite does inside one statement is its own affair;
its statements are operations.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_WRITING = (
    "BEGIN IMMEDIATE", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "COMMIT", "PRAGMA journal_mode =",
    "PRAGMA user_version =",
)  # fmt: skip
_RENAME, _UNLINK = os.rename, os.unlink
_FSYNC, _PWRITE, _OPEN, _DUP, _TRUNCATE = os.fsync, os.pwrite, os.open, os.dup, os.ftruncate


@dataclass
class Plan:
    """What shall go wrong. Numbers count from 1 over all durable operations of the process."""

    kill_at: int = 0
    half: bool = False
    """Kill when half of a write is on disk, instead of before the operation."""
    power_loss: bool = False
    """Killed like this, files lose everything that was not synced."""
    fail: frozenset[str] = frozenset()
    """Names of operations that fail, each the first time it comes up."""
    fail_half: bool = False
    errno: int = errno.ENOSPC
    reads: str = ""
    """What happens to the reads named in ``fail``: ``fail``, ``end`` (as if the file ended) or ``short``."""
    change: dict[str, str] = field(default_factory=dict)
    """Change a file when a read comes up: ``at`` (its name), ``how`` (see ``CHANGES``), ``path``, ``other``."""


@dataclass
class Tap:
    """The state of the taps of one process."""

    roots: tuple[tuple[str, str], ...]
    plan: Plan
    tell: Callable[[str], None]
    count: int = 0
    log: list[str] = field(default_factory=list)
    read_log: list[str] = field(default_factory=list)
    fired: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    unsynced: dict[tuple[int, int], int] = field(default_factory=dict)

    def shown(self, path: Any, dir_fd: int | None = None) -> str:
        text = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.fsdecode(path)
        if dir_fd is not None:
            text = f"{os.readlink(f'/proc/self/fd/{dir_fd}')}/{text}"
        for root, short in self.roots:
            text = text.replace(root, short)
        return text.removesuffix(" (deleted)")

    def _label(self, name: str) -> str:
        self.seen[name] += 1
        return f"{name} #{self.seen[name]}"

    def perform(self, name: str, do: Callable[[], Any], half: Callable[[], Any] | None = None) -> Any:
        """One durable operation."""
        label = self._label(name)
        self.count += 1
        self.log.append(label + (" /" if half else ""))
        if self.count == self.plan.kill_at and (half is None or not self.plan.half):
            self.die(label)
        if label in self.plan.fail:
            self.fired.append(label)
            if half is not None and self.plan.fail_half:
                half()
            raise OSError(self.plan.errno, os.strerror(self.plan.errno))
        if self.count == self.plan.kill_at and half is not None:
            half()
            self.die(f"half of {label}")
        return do()

    def die(self, label: str) -> None:
        self.tell(label)
        if self.plan.power_loss:
            for fd in self.unsynced.values():
                _TRUNCATE(fd, 0)
        os.kill(os.getpid(), signal.SIGKILL)

    def wrote(self, fd: int) -> None:
        status = os.fstat(fd)
        if self.plan.power_loss and (status.st_dev, status.st_ino) not in self.unsynced:
            self.unsynced[status.st_dev, status.st_ino] = _DUP(fd)

    def synced(self, fd: int) -> None:
        status = os.fstat(fd)
        if (kept := self.unsynced.pop((status.st_dev, status.st_ino), None)) is not None:
            os.close(kept)


def install(tap: Tap) -> None:
    """Patch this process. For good: it is a child that ends soon."""
    _tap_descriptors(tap)
    for name in ("replace", "rename", "link", "symlink"):
        _tap_two_paths(tap, name)
    for name in ("unlink", "remove", "rmdir", "mkdir"):
        _tap_one_path(tap, name)
    _tap_files(tap)
    _tap_sqlite(tap)
    _tap_reads(tap)


def _tap_descriptors(tap: Tap) -> None:
    def pwrite(fd: int, data: Any, offset: int) -> int:
        view = memoryview(data).cast("B")
        middle = len(view) // 2

        def some(part: memoryview) -> int:
            tap.wrote(fd)
            return _PWRITE(fd, part, offset)

        half = (lambda: some(view[:middle])) if middle else None
        return int(tap.perform(f"pwrite {tap.shown(fd)}", lambda: some(view), half))

    def fsync(fd: int) -> None:
        def sync() -> None:
            _FSYNC(fd)
            tap.synced(fd)

        tap.perform(f"fsync {tap.shown(fd)}", sync)

    def open_descriptor(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        def do() -> int:
            return _OPEN(path, flags, mode, dir_fd=dir_fd)

        if not flags & (os.O_CREAT | os.O_TRUNC):
            return do()
        fd = int(tap.perform(f"create {tap.shown(path, dir_fd)}", do))
        tap.wrote(fd)
        return fd

    sendfile = os.sendfile

    def send(out: int, source: int, *args: Any) -> int:
        def do() -> int:
            tap.wrote(out)
            return sendfile(out, source, *args)

        return int(tap.perform(f"sendfile {tap.shown(out)}", do))

    os.pwrite, os.fsync, os.open, os.sendfile = pwrite, fsync, open_descriptor, send  # type: ignore[assignment]  # taps


def _tap_two_paths(tap: Tap, call: str) -> None:
    original = getattr(os, call)

    def patched(source: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
        name = f"{call} {tap.shown(source)} -> {tap.shown(target)}"
        return tap.perform(name, lambda: original(source, target, *args, **kwargs))

    setattr(os, call, patched)


def _tap_one_path(tap: Tap, call: str) -> None:
    original = getattr(os, call)

    def patched(path: Any, *args: Any, **kwargs: Any) -> Any:
        directory = kwargs.get("dir_fd")
        exists = os.access(path, os.F_OK, dir_fd=directory, follow_symlinks=False)
        if exists == (call == "mkdir"):
            return original(path, *args, **kwargs)  # changes nothing: no step
        name = f"{call} {tap.shown(path, directory)}"
        return tap.perform(name, lambda: original(path, *args, **kwargs))

    setattr(os, call, patched)


class _Written:
    """A file that was opened for writing through Python's own files: every write is an operation."""

    def __init__(self, tap: Tap, raw: Any, path: Any) -> None:
        self._tap, self._raw, self._path = tap, raw, path

    def __enter__(self) -> _Written:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, data: Any) -> int:
        def some(part: Any) -> int:
            self._raw.write(part)
            self._raw.flush()
            self._tap.wrote(self._raw.fileno())
            return len(data)

        half = (lambda: some(data[: len(data) // 2])) if len(data) > 1 else None
        return int(self._tap.perform(f"write {self._tap.shown(self._path)}", lambda: some(data), half))

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def flush(self) -> None:
        self._raw.flush()

    def close(self) -> None:
        self._raw.close()


def _tap_files(tap: Tap) -> None:
    original = io.open

    def patched(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if "w" in mode and not isinstance(file, int):
            raw = tap.perform(f"create {tap.shown(file)}", lambda: original(file, mode, *args, **kwargs))
            tap.wrote(raw.fileno())
            return _Written(tap, raw, file)
        if not isinstance(file, int) and "/proc/" not in (shown := tap.shown(file)):
            _disturb_read(tap, f"read {shown}")
        return original(file, mode, *args, **kwargs)

    io.open = builtins.open = patched  # type: ignore[assignment]  # taps


def _tap_sqlite(tap: Tap) -> None:
    connect = sqlite3.connect

    class Connection(sqlite3.Connection):
        """Every statement that writes is an operation, closing (a checkpoint) too."""

        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            do = super().execute
            words = sql.split(None, 3)
            if not sql.startswith(_WRITING):
                return do(sql, *args)
            return _statement(tap, f"sqlite {' '.join(words[:3])}", lambda: do(sql, *args))

        def close(self) -> None:
            tap.perform("sqlite close", super().close)

    sqlite3.connect = lambda *args, **kwargs: connect(*args, factory=Connection, **kwargs)  # type: ignore[assignment]  # taps


def _statement(tap: Tap, name: str, do: Callable[[], sqlite3.Cursor]) -> sqlite3.Cursor:
    try:
        cursor: sqlite3.Cursor = tap.perform(name, do)
    except OSError as error:
        full = error.errno == errno.ENOSPC
        told = sqlite3.OperationalError("database or disk is full" if full else "disk I/O error")
        told.sqlite_errorcode = sqlite3.SQLITE_FULL if full else sqlite3.SQLITE_IOERR_WRITE
        raise told from error
    return cursor


def rewrite(path: str, other: str) -> None:
    """Other bytes in the same file, as many as before."""
    fd = _OPEN(path, os.O_WRONLY)
    source = _OPEN(other, os.O_RDONLY)
    _PWRITE(fd, os.pread(source, 1 << 20, 0), 0)
    os.close(source)
    os.close(fd)


def rewrite_unnoticed(path: str, other: str) -> None:
    """Other bytes in the same file, and the old time stamp."""
    before = os.stat(path)
    rewrite(path, other)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: str, other: str) -> None:
    """Another file of the same size and time stamp under the same name."""
    before = os.stat(path)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    _RENAME(other, path)


CHANGES: dict[str, Callable[[str, str], None]] = {
    "rewrite": rewrite,
    "rewrite unnoticed": rewrite_unnoticed,
    "replace": replace,
    "truncate": lambda path, other: os.truncate(path, os.stat(path).st_size // 2),
    "delete": lambda path, other: _UNLINK(path),
}


def _disturb_read(tap: Tap, name: str) -> str:
    """Raise, or say how the read goes wrong (empty: not at all)."""
    label = tap._label(name)
    tap.read_log.append(label)
    if label == tap.plan.change.get("at"):
        tap.fired.append(label)
        CHANGES[tap.plan.change["how"]](tap.plan.change["path"], tap.plan.change["other"])
    if label not in tap.plan.fail or not tap.plan.reads:
        return ""
    tap.fired.append(label)
    if tap.plan.reads == "fail":
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    return tap.plan.reads


def _tap_reads(tap: Tap) -> None:
    preadv = os.preadv

    def patched(fd: int, buffers: Any, offset: int, *flags: int) -> int:
        how = _disturb_read(tap, f"preadv {tap.shown(fd)}")
        if how == "end":
            return 0
        if how == "short":
            view = memoryview(buffers[0]).cast("B")
            return preadv(fd, [view[: max(1, len(view) // 3)]], offset, *flags)
        return preadv(fd, buffers, offset, *flags)

    os.preadv = patched


def roots_of(*named: tuple[Path, str]) -> tuple[tuple[str, str], ...]:
    """Path prefixes and their short forms, the longest first."""
    return tuple(sorted(((f"{path}/", short) for path, short in named), key=lambda pair: -len(pair[0])))
