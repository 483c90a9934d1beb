"""A small file whose content may change, noticed by looking at it.

Neither times nor inode numbers are looked at, and no notification is waited for: Kubernetes swaps a link to the
directory that a mounted ConfigMap lies in, and some file systems tell nobody.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOOK_SECONDS = 5.0
_MOST_BYTES = (1 << 20) + 1
"""More than settings may have: a larger file is refused whatever follows."""


class WatchedFile:
    """``take`` is for one thread; the others may be any. Due at first: it may have changed since it was read."""

    def __init__(self, path: Path, *, seconds: float = LOOK_SECONDS) -> None:
        self._path = path
        self._seconds = seconds
        self._last = self._digest()
        self._due = True

    def ask(self) -> None:
        """Due now, changed or not. Takes no lock: signal handlers call it."""
        self._due = True

    def take(self) -> bool:
        """Whether it changed, or was asked for, since this was called last."""
        due, self._due = self._due, False
        return due

    def look(self) -> bool:
        """Look at the content; True when it is another one than before, or can be read no more, or again."""
        digest = self._digest()
        if digest == self._last:
            return False
        self._last, self._due = digest, True
        return True

    @contextmanager
    def watching(self, poke: Callable[[], None]) -> Iterator[None]:
        """Look every few seconds, inside the block; ``poke`` is called in another thread when there is news."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(self._seconds):
                if self.look() and not ended.is_set():
                    poke()

        # A daemon: a mount that hangs must not keep the process from ending.
        thread = threading.Thread(target=watch, name="settings", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(self._seconds)

    def _digest(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                return hashlib.sha256(file.read(_MOST_BYTES)).digest()
        except OSError as error:
            return str(error.errno).encode()
