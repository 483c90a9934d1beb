"""Facts and the state of the node as JSON, free of credentials and of numbers that JSON does not have."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields

from mergenode.adapters.observers.safe_text import redact
from mergenode.ledger.records import Fact
from mergenode.ledger.traces import trace_of


def fact_document(fact: Fact, *, without: frozenset[str] = frozenset()) -> dict[str, object]:
    """``kind``, ``trace_id`` (null for facts about the node itself), every field of the fact except ``without``."""
    values = {field.name: plain(getattr(fact, field.name)) for field in fields(fact) if field.name not in without}
    return {"kind": fact.kind, "trace_id": trace_of(fact) or None, **values}


def plain(value: object) -> object:
    """The value in JSON's own types: not-finite numbers become null, credentials in texts become ``***``."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return redact(str(value))


def encode(document: Mapping[str, object]) -> bytes:
    """ASCII JSON: names that are not valid UTF-8 stay escaped instead of breaking the answer."""
    return json.dumps(plain(document), ensure_ascii=True, allow_nan=False, indent=1).encode("ascii") + b"\n"
