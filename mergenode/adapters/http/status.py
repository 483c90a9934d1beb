"""The status document of a node, described key by key in ``docs/metrics.md``."""

from __future__ import annotations

from dataclasses import asdict, fields

import mergenode
from mergenode.adapters.http.documents import fact_document
from mergenode.adapters.http.live import Live, RegistryState
from mergenode.adapters.http.probes import liveness, readiness
from mergenode.ledger.records import Fact
from mergenode.ports.ledger_store import LedgerReader

SCHEMA = 1
"""Raised when a key changes its meaning or goes away; new keys come without notice."""

_LAST_KINDS = ("folded", "published", "rejected", "quarantined")
_BULKY = frozenset({"groups", "totals"})


def status_document(node: str, reader: LedgerReader, live: Live, stalled_after_seconds: float) -> dict[str, object]:
    """Everything a person or a script asks first. Reads a constant number of rows; what is in quarantine is counted."""
    initialised, head = reader.initialised(), reader.head()
    return {
        "schema": SCHEMA,
        "node": node,
        "software": mergenode.__version__,
        "base": initialised.base if initialised else None,
        "method": {"name": initialised.method, "options": initialised.options} if initialised else None,
        "head": {field.name: getattr(head, field.name) for field in fields(head)},
        "health": _health(live, stalled_after_seconds),
        "counts": reader.counts(),
        "quarantined": reader.quarantine_size(),
        "pending": sum(state.pending for state in live.registries),
        "unsettled": sum(state.unsettled_total for state in live.registries),
        "registries": [_registry(state, live.now) for state in live.registries],
        "running": _running(live),
        "activities": [activity.document() for activity in live.activities],
        "retrying": _retrying(live),
        "disk": asdict(live.disk) if live.disk else None,
        "last": {kind: _newest(reader, kind) for kind in _LAST_KINDS},
    }


def newest_facts(reader: LedgerReader, kind: str, limit: int) -> list[Fact]:
    """At most ``limit`` facts of a kind, newest first."""
    return [fact for _, fact in reversed(reader.facts(kinds=(kind,), newest=limit))]


def _newest(reader: LedgerReader, kind: str) -> dict[str, object] | None:
    found = newest_facts(reader, kind, 1)
    return fact_document(found[0], without=_BULKY) if found else None


def _health(live: Live, stalled_after_seconds: float) -> dict[str, object]:
    alive, ready = liveness(live, stalled_after_seconds), readiness(live)
    return {
        "live": alive.ok,
        "ready": ready.ok,
        "started": live.loaded,
        "draining": live.draining,
        "loop_age_seconds": round(live.loop_age, 3),
        "reasons": [check.detail for check in (*alive.checks, *ready.checks) if not check.ok],
    }


def _registry(state: RegistryState, now: float) -> dict[str, object]:
    return {
        "name": state.name,
        "pending": state.pending,
        "unsettled": [
            {"name": entry.name, "why": entry.why, "seconds_left": entry.seconds_left} for entry in state.unsettled
        ],
        "unsettled_total": state.unsettled_total,
        "answered_seconds_ago": None if state.answered is None else round(now - state.answered, 3),
        "error": state.error or None,
    }


def _running(live: Live) -> dict[str, object] | None:
    if live.running is None:
        return None
    running = live.running
    progress = running.progress
    return {
        "activity": progress.activity,
        "subject": progress.subject,
        "tensors_done": progress.tensors_done,
        "tensors_total": progress.tensors_total,
        "bytes_done": progress.bytes_done,
        "bytes_total": progress.bytes_total,
        "waits_for": progress.waits_for,
        "elapsed_seconds": live.now - running.started,
        "bytes_per_second": running.bytes_per_second(live.now),
        "seconds_remaining": running.seconds_remaining(live.now),
        "advanced_seconds_ago": live.now - running.advanced,
    }


def _retrying(live: Live) -> dict[str, object] | None:
    if live.retry is None:
        return None
    retry = live.retry
    return {
        "subject": retry.subject,
        "reason": retry.reason,
        "message": retry.message,
        "hint": retry.hint,
        "delay_seconds": retry.delay_seconds,
        "seconds_ago": live.now - retry.at,
    }
