"""How long ago something of a kind happened last, across a restart."""

from __future__ import annotations

from dataclasses import dataclass

from mergenode.ports.clock import Clock
from mergenode.ports.ledger_store import LedgerReader


@dataclass(slots=True)
class Since:
    """The newest fact of ``kind``. Counts on a clock that does not jump; wall time only bridges the restart."""

    ledger: LedgerReader
    clock: Clock
    kind: str
    _at: float | None = None

    def happened(self) -> None:
        """It did, now."""
        self._at = self.clock.monotonic()

    def seconds(self, *, asked: bool) -> float | None:
        """None when it never happened, or nobody asks: reading the ledger costs something."""
        if not asked:
            return None
        now = self.clock.monotonic()
        if self._at is None:
            newest = self.ledger.facts(kinds=[self.kind], newest=1)
            if not newest:
                return None
            self._at = now - max(0.0, self.clock.unix() - self.clock.parse(newest[-1][1].time))
        return now - self._at

    def left(self, seconds: float) -> float:
        """Until it is so long ago; 0 when it is, or never happened. Reads nothing for 0 seconds."""
        since = self.seconds(asked=seconds > 0)
        return 0.0 if since is None else max(0.0, seconds - since)
