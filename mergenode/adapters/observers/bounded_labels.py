"""Label values from a bounded set, whatever comes in."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from mergenode.adapters.observers.safe_text import visible

OTHER = "other"
"""The label value of everything beyond the bound."""


class ClosedLabels:
    """Passes the values it was made with; everything else becomes ``other``."""

    def __init__(self, values: Iterable[str]) -> None:
        self.values = tuple(dict.fromkeys(values))
        self._known = frozenset(self.values)

    def label(self, value: str) -> str:
        return value if value in self._known else OTHER


class FirstLabels:
    """Passes the first ``limit`` different values; every later one becomes ``other``. Thread-safe."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._labels: dict[str, str] = {}
        self._lock = threading.Lock()

    def label(self, value: str) -> str:
        """The printable form of the value, or ``other`` once the bound is reached."""
        with self._lock:
            known = self._labels.get(value)
            if known is None and len(self._labels) < self._limit:
                known = self._labels[value] = visible(value)
        return OTHER if known is None else known
