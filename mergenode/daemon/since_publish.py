"""How long ago the last version became visible, across a restart."""

from __future__ import annotations

from dataclasses import dataclass

from mergenode.ports.clock import Clock
from mergenode.ports.ledger_store import LedgerReader


@dataclass(slots=True)
class SincePublish:
    """Counts on a clock that does not jump; wall time only bridges the restart."""

    ledger: LedgerReader
    clock: Clock
    _at: float | None = None

    def published(self) -> None:
        """A version became visible now."""
        self._at = self.clock.monotonic()

    def seconds(self, *, asked: bool) -> float | None:
        """None when nothing was ever published, or nobody asks: reading the ledger costs something."""
        if not asked:
            return None
        now = self.clock.monotonic()
        if self._at is None:
            versions = self.ledger.versions()
            if not versions:
                return None
            self._at = now - max(0.0, self.clock.unix() - self.clock.parse(versions[-1].time))
        return now - self._at
