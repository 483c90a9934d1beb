"""Time, injected: tests use a clock that jumps."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Two clocks: wall time for facts people read, monotonic time for waiting and back-off."""

    def now(self) -> str:
        """UTC, ISO 8601 with seconds, ending in ``Z``."""
        ...

    def unix(self) -> float:
        """Wall time in seconds since the epoch; may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go backwards."""
        ...

    def parse(self, time: str) -> float:
        """Seconds since the epoch of a time that ``now`` gave."""
        ...
