"""JSON lines between the node and the process of a plug-in. Every line is bounded, nothing is ever unpickled."""

from __future__ import annotations

import json
import os
import select
from collections.abc import Mapping
from typing import Any

MOST_BYTES = 4 << 20
"""Of one line. Scores and messages are far smaller; anything larger is a plug-in that went wrong."""

_PIECE = 1 << 16


class BrokenLine(Exception):
    """What came is no line of the protocol: not JSON, no object, or without an end."""


def encode(message: Mapping[str, Any]) -> bytes:
    """One line. Raises ValueError when a number in it is not finite."""
    return json.dumps(message, allow_nan=False, separators=(",", ":")).encode() + b"\n"


class LineReader:
    """Reads lines from a descriptor that stays the caller's."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._held = bytearray()

    def read(self, seconds: float) -> dict[str, Any] | None:
        """The next line; None when it did not come within ``seconds``.

        Raises:
            EOFError: the other side closed the pipe.
            BrokenLine: what came cannot be one.
        """
        while (end := self._held.find(b"\n")) < 0:
            if len(self._held) > MOST_BYTES:
                raise BrokenLine(f"a line of more than {MOST_BYTES} bytes")
            if not select.select([self._fd], [], [], max(0.0, seconds))[0]:
                return None
            piece = os.read(self._fd, _PIECE)
            if not piece:
                raise EOFError
            self._held += piece
        line = bytes(self._held[:end])
        del self._held[: end + 1]
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BrokenLine("a line that is not JSON") from error
        if not isinstance(message, dict):
            raise BrokenLine("a line that is not an object")
        return message
