"""Asking a node for its status document, from another process on its machine."""

from __future__ import annotations

import json
from http.client import HTTPConnection, HTTPException
from typing import Any

STATUS = "/api/v1/status"
MAX_BYTES = 16 << 20
"""A status document with thousands of unsettled entries stays well below."""

_HERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where a node listens, not where we do


class NoAnswer(Exception):
    """The address did not answer as a node does; the message names it."""


def address_text(host: str, port: int) -> str:
    """Where a node that listens there is asked, as a URL."""
    host = _HERE.get(host, host)
    return f"http://[{host}]:{port}{STATUS}" if ":" in host else f"http://{host}:{port}{STATUS}"


def ask_status(host: str, port: int, *, seconds: float) -> dict[str, Any]:
    """What ``/api/v1/status`` answers. No proxy is asked. Raises NoAnswer."""
    where = address_text(host, port)
    connection = HTTPConnection(_HERE.get(host, host), port, timeout=seconds)
    try:
        connection.request("GET", STATUS)
        answer = connection.getresponse()
        body = answer.read(MAX_BYTES + 1)
    except (OSError, HTTPException) as error:
        raise NoAnswer(f"{where} does not answer: {error or type(error).__name__}") from error
    finally:
        connection.close()
    try:
        document = json.loads(body) if len(body) <= MAX_BYTES else None
    except ValueError:
        document = None
    if answer.status != 200 or not isinstance(document, dict) or not isinstance(document.get("activities"), list):
        raise NoAnswer(f"{where} answers {answer.status}, but not as a node of this version does")
    return document
