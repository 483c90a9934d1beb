"""Decisions on what is in quarantine, where no node runs that could carry them out."""

from __future__ import annotations

from mergenode.adapters.clock import SystemClock
from mergenode.bootstrap.parts import open_state
from mergenode.daemon.quarantine import decide
from mergenode.ledger.changes import Change
from mergenode.settings import Settings


def decide_here(settings: Settings, change: Change) -> int:
    """Record the decision; how many facts it took. What was pushed and is dropped is removed at the next start.

    Durability: the facts are in the ledger on return. Raises RejectedError when nothing of that content is in
    quarantine, FatalError when another process works on the state directory.
    """
    with open_state(settings) as ledger:
        facts = decide(ledger, change, SystemClock().now())
        if facts:
            ledger.append(*facts)
        return len(facts)
