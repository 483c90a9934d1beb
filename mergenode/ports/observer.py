"""What the daemon tells the world while it works. Observers never raise into the line and never decide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mergenode.ledger.records import Fact
from mergenode.types import Listing


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long piece of work is. ``activity``: of a node a value of ``ActivityKind``; commands have more.

    ``tensors_*`` count ``step``. ``free_bytes``: of ``bytes_done``, what cost this run of the work nothing. ``peer``:
    the other side of a transfer. ``over``: it has ended, well or not. ``ports.told.Told`` tells all that.
    """

    activity: str
    subject: str
    tensors_done: int
    tensors_total: int
    bytes_done: int
    bytes_total: int
    waits_for: str = ""
    step: str = "tensors"
    peer: str = ""
    free_bytes: int = 0
    over: bool = False

    @property
    def work(self) -> tuple[str, str]:
        """What tells one piece of work from all others that are under way."""
        return self.activity, self.subject


class Observer(Protocol):
    """Receives facts, progress and the state of the loop."""

    def fact(self, fact: Fact) -> None:
        """A fact was durably recorded."""
        ...

    def progress(self, progress: Progress) -> None:
        """Called some hundred times for a piece of work, from many threads; must be cheap."""
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
