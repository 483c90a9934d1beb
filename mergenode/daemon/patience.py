"""When something that failed may be tried again."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from mergenode.ledger.backoff import CAP_SECONDS, CAPS, backoff_seconds, failures_until
from mergenode.ledger.view import Key
from mergenode.ports.clock import Clock

NODE = "node"
"""Everything that this node writes."""
PUBLISH = "publish"
MIX = "mix"
SELECT = "select"
EVICT = "evict"

Slot = Key | str
"""What backs off: one revision, publishing, the exchange with other nodes, selecting, making room in the pool, or
the whole node."""


@dataclass(slots=True)
class _Failures:
    count: int = 0
    until: float = 0.0


@dataclass(slots=True, kw_only=True)
class Patience:
    """Failures in a row, and the monotonic time of the next attempt, per slot. ``jitter``: numbers in [0, 1)."""

    clock: Clock
    jitter: Callable[[], float]
    _slots: dict[Slot, _Failures] = field(default_factory=dict)

    def failed(self, slot: Slot, reason: str) -> float:
        """One more failure; returns the seconds to wait, not more than ``CAPS`` allows for the reason.

        However long a row with a short cap was, a failure for another reason goes on from that cap.
        """
        failures = self._slots.setdefault(slot, _Failures())
        cap = CAPS.get(reason, CAP_SECONDS)
        failures.count += 1
        delay = backoff_seconds(failures.count, self.jitter(), cap_seconds=cap)
        if cap < CAP_SECONDS:
            failures.count = min(failures.count, failures_until(cap))
        failures.until = self.clock.monotonic() + delay
        return delay

    def succeeded(self, slot: Slot) -> None:
        """The slot starts from scratch, and so does the node: something of it works."""
        self._slots.pop(slot, None)
        self._slots.pop(NODE, None)

    def keep_only(self, listed: Collection[Key]) -> None:
        """Forget revisions that no registry lists any more."""
        self._slots = {slot: kept for slot, kept in self._slots.items() if isinstance(slot, str) or slot in listed}

    def left(self, slot: Slot) -> float:
        """Seconds until the slot may be tried again, at least 0."""
        failures = self._slots.get(slot)
        return max(0.0, failures.until - self.clock.monotonic()) if failures is not None else 0.0

    def waiting(self) -> dict[Key, float]:
        """Revisions that back off, with the seconds left."""
        return {slot: left for slot in self._slots if not isinstance(slot, str) and (left := self.left(slot)) > 0}

    def __len__(self) -> int:
        return len(self._slots)
