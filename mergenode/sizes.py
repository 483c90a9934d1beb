"""How people write sizes, on the command line and in settings files."""

from __future__ import annotations

import math
import re

_UNITS = {
    "": 1, "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip
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
