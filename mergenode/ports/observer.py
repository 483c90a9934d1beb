"""What the daemon tells the world while it works. Observers never raise into the line and never decide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mergenode.ledger.records import Fact
from mergenode.types import Listing


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long piece of work is. ``activity`` is ``fold``, ``publish``, ``verify`` or ``hash``."""

    activity: str
    subject: str
    tensors_done: int
    tensors_total: int
    bytes_done: int
    bytes_total: int
    waits_for: str = ""


class Observer(Protocol):
    """Receives facts, progress and the state of the loop."""

    def fact(self, fact: Fact) -> None:
        """A fact was durably recorded."""
        ...

    def progress(self, progress: Progress) -> None:
        """Called often; must be cheap."""
        ...

    def listed(self, registry: str, listing: Listing, pending: int) -> None:
        """A registry answered; ``pending`` of its candidates wait to be folded."""
        ...

    def listing_failed(self, registry: str, message: str) -> None: ...

    def retrying(self, subject: str, reason: str, message: str, delay_seconds: float, hint: str = "") -> None:
        """A transient failure; the same work is tried again after the delay. ``hint``: what would help, if known."""
        ...

    def heartbeat(self) -> None:
        """The loop is alive (also called while a fold makes progress)."""
        ...

    def sizes(self, *, statistics_bytes: int, published_bytes: int, disk_free_bytes: int) -> None: ...

    def message(self, level: str, text: str, **fields: object) -> None:
        """One line for people: level is debug, info, warning or error."""
        ...
