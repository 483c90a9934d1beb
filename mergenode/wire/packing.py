"""Fields of fixed width, one after another, little-endian: one encoding per value, so bytes can be hashed and signed.

Reading never believes a length before the bytes are there, and what was read packs to the same bytes again.
"""

from __future__ import annotations

import math
import struct

from mergenode.errors import RejectedError, RejectReason

_WIDTHS = {1: struct.Struct("<B"), 2: struct.Struct("<H"), 4: struct.Struct("<I"), 8: struct.Struct("<Q")}
_FLOAT = struct.Struct("<d")
_HINT = "The sender is broken or of another version; ask for it again or from another node."


def packed_number(value: int, width: int) -> bytes:
    """``value`` in ``width`` bytes (1, 2, 4, 8). OverflowError when it does not fit or is negative."""
    return value.to_bytes(width, "little")


def packed_float(value: float) -> bytes:
    """A binary64. ValueError for NaN and infinities; minus zero becomes zero."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    return _FLOAT.pack(value + 0.0)


def packed_text(text: str) -> bytes:
    """UTF-8 with its length in two bytes before it. OverflowError beyond 65,535 bytes, ValueError for surrogates."""
    raw = text.encode("utf-8")
    return packed_number(len(raw), 2) + raw


def malformed(where: str, fault: str) -> RejectedError:
    """What is raised for bytes that nobody who follows the format would send."""
    return RejectedError(RejectReason.HEADER_INVALID, f"{where}: {fault}", hint=_HINT)


class Unpacking:
    """Takes the fields of one message apart, in order. ``where`` names the message in errors.

    Raises, in every method:
        RejectedError: HEADER_INVALID; too few bytes, or a value that packing would not have written.
    """

    def __init__(self, data: bytes, where: str) -> None:
        """``data`` stays the caller's and is not copied as a whole."""
        self._data = data
        self._at = 0
        self.where = where

    @property
    def remaining(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._at

    def raw(self, count: int, what: str) -> bytes:
        """The next ``count`` bytes."""
        if count > self.remaining:
            raise self.malformed(f"{what} needs {count} bytes, {self.remaining} are left")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, width: int, what: str) -> int:
        """An unsigned number of ``width`` bytes."""
        return int(_WIDTHS[width].unpack(self.raw(width, what))[0])

    def flag(self, what: str) -> bool:
        """One byte, 0 or 1."""
        value = self.number(1, what)
        if value > 1:
            raise self.malformed(f"{what} is {value}, not 0 or 1")
        return value == 1

    def float(self, what: str) -> float:
        """A finite binary64; minus zero is refused, it is never written."""
        value = float(_FLOAT.unpack(self.raw(8, what))[0])
        if not math.isfinite(value) or (value == 0 and math.copysign(1, value) < 0):
            raise self.malformed(f"{what} is {value}")
        return value

    def text(self, most: int, what: str) -> str:
        """UTF-8 of at most ``most`` characters, printable, without blanks at its ends."""
        raw = self.raw(self.number(2, f"the length of {what}"), what)
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.malformed(f"{what} is not UTF-8 (byte {error.start})") from error
        if not 0 < len(text) <= most or not text.isprintable() or text != text.strip():
            raise self.malformed(f"{what} is {text[:80]!r}, not 1 to {most} printable characters")
        return text

    def end(self) -> None:
        """There is nothing after the last field."""
        if self.remaining:
            raise self.malformed(f"{self.remaining} bytes after the end")

    def malformed(self, fault: str) -> RejectedError:
        """The error to raise for ``fault``, with the place that was reached."""
        return malformed(self.where, f"{fault} (byte {self._at})")
