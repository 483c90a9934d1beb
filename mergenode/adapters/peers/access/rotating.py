"""What was read from files and is read again when they change, under a running node."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from mergenode.errors import FatalError

Read = TypeVar("Read")

_MOST_BYTES = 1 << 20

_Stamp = tuple[tuple[int, ...] | None, ...]


class Rotating(Generic[Read]):
    """The newest usable content of a few small files. Safe to use from several threads.

    Somebody may be in the middle of replacing the files. What does not make sense leaves the content of before in
    force, and is told once; the files are looked at again when they change again.
    """

    def __init__(
        self, paths: Sequence[Path], parse: Callable[[Sequence[bytes]], Read], told: Callable[[str], None], hint: str
    ) -> None:
        """``parse`` gets the contents in the order of ``paths`` and raises ValueError when they make no sense.

        Raises:
            FatalError: there is nothing usable now; with ``hint``.
        """
        self._paths, self._parse, self._told = tuple(paths), parse, told
        self._lock = threading.Lock()
        self._seen = self._stamp()
        self._generation = 1
        try:
            self._value = self._parsed()
        except ValueError as error:
            raise FatalError(str(error), hint=hint) from error

    def current(self) -> tuple[Read, int]:
        """What is in force, and its generation, which grows with every change. Costs a look at each file."""
        with self._lock:
            trouble = self._refresh()
            found = self._value, self._generation
        if trouble:
            self._told(f"{trouble}; what was read before stays in force")
        return found

    def _refresh(self) -> str:
        stamp = self._stamp()
        if stamp == self._seen:
            return ""
        try:
            value = self._parsed()
        except ValueError as error:
            trouble = str(error)
        else:
            trouble = ""
        if self._stamp() != stamp:
            return ""  # being replaced at this moment: the next call looks again
        self._seen = stamp
        if not trouble:
            self._value = value
            self._generation += 1
        return trouble

    def _parsed(self) -> Read:
        return self._parse([_content(path) for path in self._paths])

    def _stamp(self) -> _Stamp:
        return tuple(_stamp_of(path) for path in self._paths)


def _stamp_of(path: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from error
    if len(content) > _MOST_BYTES:
        raise ValueError(f"{path}: larger than {_MOST_BYTES} bytes")
    return content
