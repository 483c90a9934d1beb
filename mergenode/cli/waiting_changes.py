"""Changes of the merge that were asked for and are not made yet, as ``status`` tells them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mergenode.ledger.changes import Change
from mergenode.ports.ledger_store import LedgerReader
from mergenode.types import Digest

_ASKED = re.compile(r"([0-9]{20})-[0-9a-f]{8}")
_NAMED = 3


def waiting_changes(state: Path, reader: LedgerReader) -> list[dict[str, Any]]:
    """Oldest first: id, asked (when), what, subject (of whom, or to which version) and why."""
    from mergenode.adapters.store.change_requests import FolderChangeRequests

    return [
        {"id": identity, "asked": _asked(identity)} | _told(change, reader)
        for identity, change in FolderChangeRequests(state).waiting()
    ]


def _told(change: Change | None, reader: LedgerReader) -> dict[str, str]:
    if change is None:
        return {"what": "?", "subject": "", "why": "not a request that this mergenode understands"}
    if change.rollback_to is not None:
        what, subject = "rollback", f"v{change.rollback_to:06d}"
    elif change.forget is not None:
        what, subject = "forget", change.forget
    else:
        what = "retract" if change.quarantine is None else f"quarantine {change.quarantine}"
        named = [_name(content, reader) for content in change.contents[:_NAMED]]
        more = len(change.contents) - len(named)
        subject = ", ".join(named) + (f" and {more} more" if more else "")
    return {"what": what, "subject": subject, "why": change.why}


def _name(content: Digest, reader: LedgerReader) -> str:
    member = reader.by_content(content)
    return content[:19] if member is None else f"{member.registry}/{member.name}"


def _asked(identity: str) -> str:
    """When, by the id that the request got then; empty where it has another one."""
    from datetime import UTC, datetime

    found = _ASKED.fullmatch(identity)
    if found is None:
        return ""
    try:
        return datetime.fromtimestamp(int(found[1]) // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return ""
