"""Which facts of earlier processes the gauges are set from at a start."""

from __future__ import annotations

from collections.abc import Iterator

from mergenode.ledger.records import Fact
from mergenode.maths.slow_shift import REMEMBERED
from mergenode.ports.ledger_store import LedgerReader

_MANY = ("folded", "published", "retracted", "deselected", "yielded")
"""What a slow shift is made of: contributions that came, and those that left."""

_ONE = ("restated", "mixed", "selected", "scored")


def facts_to_restore(ledger: LedgerReader) -> Iterator[Fact]:
    """For ``PrometheusObserver.restore``, oldest first; so many at most, however long the history is."""
    newest = [
        found
        for kinds, count in ((_MANY, REMEMBERED), (_ONE, 1))
        for kind in kinds
        for found in ledger.facts(kinds=[kind], newest=count)
    ]
    return (fact for _, fact in sorted([*newest, *ledger.quarantine()], key=lambda found: found[0]))
