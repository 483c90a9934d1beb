"""The committed running merge, from the two facts that determine it."""

from __future__ import annotations

from mergenode.ledger.records import Folded, Published
from mergenode.types import Head


def head_after(folded: Folded | None, published: Published | None) -> Head:
    """The head of a ledger whose newest ``folded`` and ``published`` facts are these; None: there is none."""
    version, published_generation = (published.version, published.generation) if published else (0, 0)
    if folded is None:
        return Head(published_generation=published_generation, version=version)
    return Head(
        generation=folded.generation,
        count=folded.count,
        totals=folded.totals,
        statistics=folded.statistics,
        lineage=folded.lineage,
        published_generation=published_generation,
        version=version,
    )
