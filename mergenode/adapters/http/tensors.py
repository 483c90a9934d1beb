"""The table of tensors: what the newest fold did to each, a page at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mergenode.ledger.records import Folded
from mergenode.ports.ledger_store import LedgerReader

SCHEMA = 1
DEFAULT_TENSORS, MAX_TENSORS = 500, 5000
"""Per answer: at most about two megabytes."""

TensorTable = Callable[[int], Iterator[Mapping[str, Any]] | None]
"""Generation -> one mapping per tensor; None where its statistics are not there."""


@dataclass(frozen=True, slots=True)
class TensorQuery:
    """``group``: only tensors of this layer group. Of those the first ``offset`` are left out."""

    offset: int = 0
    limit: int = DEFAULT_TENSORS
    group: str | None = None


def newest_fold(reader: LedgerReader) -> Folded | None:
    """The fold whose figures there are: it was the last thing that changed the merge, or its statistics were kept."""
    found = reader.facts(kinds=(Folded.kind,), newest=1)
    return next((fact for _, fact in found if isinstance(fact, Folded)), None)


def tensors_document(fold: Folded, rows: Iterator[Mapping[str, Any]], query: TensorQuery) -> dict[str, object]:
    """The asked part of the table, and how many tensors there are; see docs/metrics.md."""
    total, shown = 0, []
    for row in rows:
        if query.group is not None and row["group"] != query.group:
            continue
        if query.offset <= total < query.offset + query.limit:
            shown.append(row)
        total += 1
    return {
        "schema": SCHEMA,
        "contribution": {
            name: getattr(fold, name)
            for name in ("registry", "name", "revision", "content", "weight", "generation", "count", "time")
        },
        "total": total,
        "offset": query.offset,
        "tensors": shown,
    }
