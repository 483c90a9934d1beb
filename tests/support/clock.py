"""A clock that stands still until it is told to move, and whose wall time may jump."""

from __future__ import annotations

from datetime import UTC, datetime


class FakeClock:
    """Implements ``Clock``. Wall and monotonic time move together unless ``jump`` moves the wall alone."""

    def __init__(self, unix: float = 1_700_000_000.0) -> None:
        self._unix = unix
        self._monotonic = 0.0

    def now(self) -> str:
        return datetime.fromtimestamp(self._unix, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def unix(self) -> float:
        return self._unix

    def monotonic(self) -> float:
        return self._monotonic

    def parse(self, time: str) -> float:
        return datetime.fromisoformat(time).timestamp()

    def advance(self, seconds: float) -> None:
        """Time passes."""
        assert seconds >= 0, "monotonic time never goes backwards; use jump for the wall"
        self._unix += seconds
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Somebody sets the wall clock, forwards or backwards."""
        self._unix += seconds
