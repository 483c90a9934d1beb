"""The committed running merge, from the two facts that determine it."""

from __future__ import annotations

from mergenode.ledger.records import Folded, Published, Restated
from mergenode.types import Head


def head_after(newest: Folded | Restated | None, published: Published | None) -> Head:
    """The head of a ledger whose newest fact about the merge and newest ``published`` fact are these; None: no such."""
    version, published_generation = (published.version, published.generation) if published else (0, 0)
    if newest is None:
        return Head(published_generation=published_generation, version=version)
    return Head(
        generation=newest.generation,
        count=newest.count,
        totals=newest.totals,
        statistics=newest.statistics,
        lineage=newest.lineage,
        published_generation=published_generation,
        version=version,
        restated=isinstance(newest, Restated),
    )
