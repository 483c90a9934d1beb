"""Ends a call in which nothing happens any more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Self

from mergenode.adapters.peers.weights.sources import Patience
from mergenode.wire.blocks import BLOCK_BYTES


class IdleWatch:
    """Use it in ``with`` around the reading of a stream."""

    def __init__(self, patience: Patience, cancel: Callable[[], object]) -> None:
        """``cancel`` may be called from another thread, once."""
        self._idle = patience.idle_seconds
        self._longest = patience.idle_seconds + BLOCK_BYTES / patience.slowest_block
        self._cancel = cancel
        self._last_piece = self._last_block = monotonic()
        self._ended = threading.Event()
        self.expired = False
        self._thread = threading.Thread(target=self._watch, name="idle-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def piece(self) -> None:
        """A part of what was asked for came."""
        self._last_piece = monotonic()

    def block(self) -> None:
        """A block came and was right."""
        self._last_piece = self._last_block = monotonic()

    def _watch(self) -> None:
        while True:
            left = min(self._last_piece + self._idle, self._last_block + self._longest) - monotonic()
            if left <= 0:
                self.expired = True
                self._cancel()
                return
            if self._ended.wait(left):
                return
