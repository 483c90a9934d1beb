"""Death at a chosen call that changes files, within one process: from there on every such call fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHANGES = ("fsync", "replace", "rename", "unlink", "mkdir", "pwrite", "ftruncate", "posix_fallocate")


class Killed(BaseException):
    """The process is dead."""


class KilledCalls:
    """Counts the calls that change files; the one of number ``at`` and all after it raise. None: never."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.calls: list[str] = []

    def step(self, name: str) -> None:
        if self.at is not None and len(self.calls) >= self.at:
            raise Killed(f"before call {self.at}, {name}")
        self.calls.append(name)

    @contextmanager
    def installed(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name in CHANGES:
                patch.setattr(os, name, self._counted(name, getattr(os, name)))
            patch.setattr(shutil, "rmtree", self._counted("rmtree", shutil.rmtree))
            yield

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.step(name)
            return real(*args, **kwargs)

        return counted
