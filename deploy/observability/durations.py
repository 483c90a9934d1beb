"""Durations in rules: windows, offsets, waits, and numbers of seconds that are durations."""

from __future__ import annotations

import re
from collections.abc import Callable

Shorten = Callable[[str], str]
"""A duration of one unit, such as ``15m``, to the one that is written instead."""

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_IN_BRACKETS = re.compile(r"(?<=\[)\d+[smhd](?=\])")
_OFFSET = re.compile(r"(?<=\boffset )\d+[smhd]\b")
_AS_SECONDS = re.compile(r"<(\d+[smhd])>")


def same(duration: str) -> str:
    """As it is written in the tables."""
    return duration


def seconds(duration: str) -> int:
    """
    Example:
        >>> seconds("15m")
        900
    """
    return int(duration[:-1]) * UNITS[duration[-1]]


def timed(expr: str, shorten: Shorten = same) -> str:
    """The expression with its durations; ``<15m>`` in a table is a number of seconds.

    Example:
        >>> timed("time() - x > <15m> and rate(y[1h]) > 0 and y offset 1h > 0")
        'time() - x > 900 and rate(y[1h]) > 0 and y offset 1h > 0'
        >>> timed("x > <15m> and rate(y[1h]) > 0", lambda _: "20s")
        'x > 20 and rate(y[20s]) > 0'
    """
    expr = _IN_BRACKETS.sub(lambda found: shorten(found[0]), expr)
    expr = _OFFSET.sub(lambda found: shorten(found[0]), expr)
    return _AS_SECONDS.sub(lambda found: str(seconds(shorten(found[1]))), expr)
