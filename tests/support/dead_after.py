"""A process that dies before its n-th durable operation, played in this one: that and every later one is refused."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

DURABLE = (
    "fsync", "fdatasync", "rename", "replace", "unlink", "rmdir", "mkdir", "link", "ftruncate", "posix_fallocate",
    "pwrite",
)  # fmt: skip


class Dead(BaseException):
    """Nothing of this life reaches the disk any more."""


class Life:
    def __init__(self, operations: int) -> None:
        self.left, self.died = operations, False
        self._lock = threading.Lock()

    def count(self) -> None:
        with self._lock:
            if self.left == 0:
                self.died = True
                raise Dead
            self.left -= 1


@contextmanager
def dead_after(operations: int) -> Iterator[Life]:
    """After so many durable operations every further one raises ``Dead``, in all threads; ``Dead`` ends here."""
    life, originals = Life(operations), {name: getattr(os, name) for name in DURABLE}
    hook = threading.excepthook

    def tapped(name: str) -> Any:
        def call(*args: Any, **named: Any) -> Any:
            life.count()
            return originals[name](*args, **named)

        return call

    threading.excepthook = lambda raised: None if raised.exc_type is Dead else hook(raised)
    for name in DURABLE:
        setattr(os, name, tapped(name))
    try:
        yield life
    except Dead:
        pass
    finally:
        threading.excepthook = hook
        for name, original in originals.items():
            setattr(os, name, original)
