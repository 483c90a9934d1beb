"""What is in quarantine, as a document."""

from __future__ import annotations

from mergenode.adapters.http.documents import fact_document
from mergenode.ledger.records import Held, Quarantined
from mergenode.ports.ledger_store import LedgerReader

SCHEMA = 1


def quarantine_document(reader: LedgerReader, limit: int) -> dict[str, object]:
    """At most ``limit`` contributions, newest first: those in quarantine, and those released and not folded yet."""
    held = list(reversed(reader.quarantine(limit)))
    return {
        "schema": SCHEMA,
        "quarantined": [_entry(number, fact) for number, fact in held if isinstance(fact, Quarantined)],
        "released": [_entry(number, fact) for number, fact in held if not isinstance(fact, Quarantined)],
    }


def quarantined(reader: LedgerReader, newest: int | None = None) -> list[Quarantined]:
    """What waits for the operator, newest first."""
    held = reader.quarantine(newest, kind=Quarantined.kind)
    return [fact for _, fact in reversed(held) if isinstance(fact, Quarantined)]


def _entry(number: int, fact: Held) -> dict[str, object]:
    return {"sequence": number, **fact_document(fact)}
