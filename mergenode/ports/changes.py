"""Where the operator's requests to change the merge arrive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mergenode.ledger.changes import Change


class ChangeRequests(Protocol):
    """Requests in the order in which they were made; each stays until it is answered."""

    def pending(self) -> Sequence[Change]:
        """What waits. Raises TransientError when it cannot be read."""
        ...

    def done(self, change: Change) -> None:
        """Its facts are in the ledger: forget it. Durable on return, idempotent."""
        ...

    def refused(self, change: Change, message: str, hint: str) -> None:
        """It cannot be carried out: leave this answer in its place. Durable on return, idempotent."""
        ...
