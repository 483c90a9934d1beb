"""Keeps a thousand different faults of one kind from filling the log: so many lines of each kind a minute, no more."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

WINDOW_SECONDS = 60.0
MOST_KINDS = 64
OTHER = "other"

_SHOWN = 60
_PARTICULARS = re.compile(r"'[^']*'|\"[^\"]*\"|\S*[\d/\\]\S*")
"""What differs between two lines of one kind: what is quoted, and words with digits or slashes."""


@dataclass(slots=True)
class _Kind:
    written: deque[float] = field(default_factory=deque)
    held: int = 0
    held_since: float = 0.0


class LineBudget:
    """Lets through at most ``most`` lines of a kind in any window, and counts the others. Thread-safe, bounded memory.

    The first line of a kind gets through. Beyond ``MOST_KINDS`` kinds at a time, new ones share one budget.
    """

    def __init__(self, monotonic: Callable[[], float], most: int, *, window_seconds: float = WINDOW_SECONDS) -> None:
        self._monotonic, self._most, self._window = monotonic, most, window_seconds
        self._kinds: dict[str, _Kind] = {}
        self._lock = threading.Lock()

    def admit(self, kind: str) -> int | None:
        """None: leave this line out. Else write it; so many of its kind were left out since the last one."""
        now = self._monotonic()
        with self._lock:
            state = self._state(kind, now)
            if self._has_room(state, now):
                state.written.append(now)
                held, state.held = state.held, 0
                return held
            if not state.held:
                state.held_since = now
            state.held += 1
            return None

    def owed(self) -> list[tuple[str, int]]:
        """Kinds of which lines were left out a window ago, and how many: each is to be told in one line now."""
        now, found = self._monotonic(), []
        with self._lock:
            for name, state in self._kinds.items():
                if state.held and now - state.held_since >= self._window and self._has_room(state, now):
                    state.written.append(now)
                    found.append((name, state.held))
                    state.held = 0
        return found

    def _state(self, kind: str, now: float) -> _Kind:
        state = self._kinds.get(kind)
        if state is None and len(self._kinds) >= MOST_KINDS:
            self._forget_the_quiet(now)
        if state is None and len(self._kinds) >= MOST_KINDS:
            kind = OTHER
            state = self._kinds.get(kind)
        if state is None:
            state = self._kinds[kind] = _Kind()
        return state

    def _forget_the_quiet(self, now: float) -> None:
        for name, state in list(self._kinds.items()):
            self._has_room(state, now)
            if not state.written and not state.held:
                del self._kinds[name]

    def _has_room(self, state: _Kind, now: float) -> bool:
        while state.written and now - state.written[0] >= self._window:
            state.written.popleft()
        return len(state.written) < self._most


def shape(text: str) -> str:
    """The text without its particulars, so that the same fault of a thousand files is one kind."""
    return _PARTICULARS.sub("~", text[: 4 * _SHOWN])[:_SHOWN]
