"""Keeps one fault that happens a thousand times from filling the log a thousand times."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

FORGOTTEN = "warnings that came again, of more kinds than are remembered"


@dataclass(slots=True)
class _Seen:
    since: float
    suppressed: int = 0


class RepeatLimit:
    """Lets the same key through once per window and counts what it held back. Thread-safe, bounded memory."""

    def __init__(self, monotonic: Callable[[], float], *, window_seconds: float = 60.0, capacity: int = 256) -> None:
        self._monotonic = monotonic
        self._window = window_seconds
        self._capacity = capacity
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._lock = threading.Lock()
        self._forgotten = 0

    def admit(self, key: str) -> int | None:
        """None when the key got through less than a window ago, else how many were held back since then."""
        now = self._monotonic()
        with self._lock:
            seen = self._seen.get(key)
            if seen is not None and now - seen.since < self._window:
                seen.suppressed += 1
                return None
            self._seen.pop(key, None)
            self._seen[key] = _Seen(now)
            while len(self._seen) > self._capacity:
                self._forgotten += self._seen.popitem(last=False)[1].suppressed
            return seen.suppressed if seen is not None else 0

    def expired(self) -> list[tuple[str, int]]:
        """Forget keys whose window is over; returns those that had repetitions held back, with how many.

        What was held back of keys that there was no room for is told under ``FORGOTTEN``.
        """
        now = self._monotonic()
        with self._lock:
            over = [key for key, seen in self._seen.items() if now - seen.since >= self._window]
            held = [(key, self._seen.pop(key).suppressed) for key in over]
            held.append((FORGOTTEN, self._forgotten))
            self._forgotten = 0
        return [(key, suppressed) for key, suppressed in held if suppressed]
