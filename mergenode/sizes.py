"""How people write and read sizes and durations: on the command line, in settings files, on the page."""

from __future__ import annotations

import math
import re

_UNITS = {
    "": 1, "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip
_BINARY = 1024
_SHOWN_UNITS = ("KiB", "MiB", "GiB", "TiB")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")


def parse_size(value: object) -> int:
    """Bytes from a number of bytes or a text with a unit.

    Example:
        >>> parse_size("2GiB"), parse_size("1.5 MB"), parse_size(4096)
        (2147483648, 1500000, 4096)

    Raises:
        ValueError: not a size; the message says how to write one.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is not None and match[2].upper() in _UNITS:
        size = float(match[1]) * _UNITS[match[2].upper()]
        if math.isfinite(size) and size < 1 << 63:
            return round(size)
    raise ValueError("a size such as 512MiB, 2GiB or 4GB, or a number of bytes")


def bytes_text(count: float) -> str:
    """A number of bytes in binary units.

    Example:
        >>> bytes_text(512), bytes_text(3 << 20)
        ('512 B', '3.0 MiB')
    """
    if count < _BINARY:
        return f"{count:.0f} B"
    for unit in _SHOWN_UNITS:
        count /= _BINARY
        if count < _BINARY or unit == _SHOWN_UNITS[-1]:
            break
    return f"{count:.1f} {unit}"


def seconds_text(seconds: float) -> str:
    """A duration in the unit that suits it.

    Example:
        >>> seconds_text(0.25), seconds_text(75), seconds_text(7260)
        ('0.25 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < _MINUTE:
        return f"{seconds:.2f} s"
    if seconds < _HOUR:
        return f"{int(seconds // _MINUTE)} min {int(seconds % _MINUTE)} s"
    return f"{int(seconds // _HOUR)} h {int(seconds % _HOUR // _MINUTE)} min"


def left_text(seconds: float | None) -> str:
    """How long something still takes, no finer than anybody can know; empty for what is not known.

    Example:
        >>> left_text(0.4), left_text(75), left_text(7260), left_text(200000), left_text(None)
        ('1 s left', '1 min 15 s left', '2 h 1 min left', '2 d 7 h left', '')
    """
    if seconds is None:
        return ""
    whole = max(1, math.ceil(seconds))
    if whole < _MINUTE:
        return f"{whole} s left"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s left"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min left"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h left"
