"""How one log record becomes exactly one line: for people, or as JSON for a log store."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from datetime import UTC, datetime

from mergenode.adapters.observers.safe_text import redact, visible
from mergenode.tracing.context import Place, caller, here
from mergenode.tracing.ids import SHORT_DIGITS

_PLAIN_EVENT = "log"


class ConsoleLines(logging.Formatter):
    """``2026-01-02T03:04:05.678Z INFO    folded       text  key=value key="two words" trace=1a2b3c4d``."""

    def format(self, record: logging.LogRecord) -> str:
        text = visible(redact(record.getMessage()))
        line = f"{_timestamp(record)} {record.levelname:<7} {_event(record):<14} {text}"
        pairs = [f"{visible(key)}={_console_value(value)}" for key, value in _fields(record).items()]
        place, calling = _place(record), _calling(record)
        pairs += [] if place is None else [f"trace={place.trace_id[:SHORT_DIGITS]}"]
        pairs += [] if calling is None else [f"caller_trace={calling.trace_id[:SHORT_DIGITS]}"]
        return f"{line}  {' '.join(pairs)}" if pairs else line


class JsonLines(logging.Formatter):
    """One object per line: ``ts`` (UTC, ISO 8601), ``level``, ``event``, ``message``, ``fields`` (an object).

    Lines about a contribution have ``trace_id`` and ``span_id``, and ``trace_links`` where they are about several.
    ``caller_trace_id``: what a caller said that it works on, where that is something else.

    ASCII only, so that no line separator of Unicode and no broken file name can end or spoil a line.
    """

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "ts": _timestamp(record),
            "level": record.levelname.lower(),
            "event": _event(record),
            "message": redact(record.getMessage()),
            "fields": {key: _json_value(value) for key, value in _fields(record).items()},
        }
        place, calling = _place(record), _calling(record)
        if place is not None:
            entry |= {"trace_id": place.trace_id, "span_id": place.span_id}
            entry |= {"trace_links": list(place.links)} if place.links else {}
        if calling is not None:
            entry["caller_trace_id"] = calling.trace_id
        return json.dumps(entry, ensure_ascii=True, allow_nan=False)


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _event(record: logging.LogRecord) -> str:
    return visible(str(getattr(record, "event", _PLAIN_EVENT)))


def _place(record: logging.LogRecord) -> Place | None:
    """What the line is about: as the record says, else what its thread works on."""
    said = getattr(record, "place", None)
    return said if isinstance(said, Place) else here()


def _calling(record: logging.LogRecord) -> Place | None:
    """What the caller of this node works on, where that is another trace."""
    calling, place = caller(), _place(record)
    return calling if calling is not None and (place is None or place.trace_id != calling.trace_id) else None


def _fields(record: logging.LogRecord) -> dict[str, object]:
    given = getattr(record, "fields", None)
    fields: dict[str, object] = dict(given) if isinstance(given, Mapping) else {}
    if record.exc_info and record.exc_info[0] is not None:
        fields["exception"] = logging.Formatter().formatException(record.exc_info)
    return fields


def _console_value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = visible(redact(str(value)))
    return json.dumps(text, ensure_ascii=False) if not text or any(c in ' ="' for c in text) else text


def _json_value(value: object) -> object:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _json_value(item) for key, item in value.items()}
    return redact(str(value))
