"""How one log record becomes exactly one line: for people, or as JSON for a log store."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from datetime import UTC, datetime

from mergenode.adapters.observers.safe_text import redact, visible

_PLAIN_EVENT = "log"


class ConsoleLines(logging.Formatter):
    """``2026-01-02T03:04:05.678Z INFO    folded       text  key=value key="two words"``."""

    def format(self, record: logging.LogRecord) -> str:
        text = visible(redact(record.getMessage()))
        line = f"{_timestamp(record)} {record.levelname:<7} {_event(record):<14} {text}"
        pairs = [f"{visible(key)}={_console_value(value)}" for key, value in _fields(record).items()]
        return f"{line}  {' '.join(pairs)}" if pairs else line


class JsonLines(logging.Formatter):
    """One object per line: ``ts`` (UTC, ISO 8601), ``level``, ``event``, ``message``, ``fields`` (an object).

    ASCII only, so that no line separator of Unicode and no broken file name can end or spoil a line.
    """

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "ts": _timestamp(record),
            "level": record.levelname.lower(),
            "event": _event(record),
            "message": redact(record.getMessage()),
            "fields": {key: _json_value(value) for key, value in _fields(record).items()},
        }
        return json.dumps(entry, ensure_ascii=True, allow_nan=False)


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _event(record: logging.LogRecord) -> str:
    return visible(str(getattr(record, "event", _PLAIN_EVENT)))


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
