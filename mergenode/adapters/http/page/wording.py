"""Numbers and times as people read them."""

from __future__ import annotations

import math
from datetime import datetime

from mergenode.adapters.http.page.markup import Markup, tag

UNKNOWN = "–"  # noqa: RUF001 - an en dash, where a value is not defined


def percent(value: float | None) -> str:
    """A share with three digits that count.

    Example:
        >>> percent(0.5), percent(0.01234)
        ('50.0 %', '1.23 %')
    """
    if value is None or not math.isfinite(value):
        return UNKNOWN
    shown = 100 * value
    if abs(shown) >= 1e5:
        return f"{shown:.2e} %"
    places = 0 if abs(shown) >= 100 else 1 if abs(shown) >= 10 else 2 if abs(shown) >= 0.1 else 4
    return f"{shown:.{places}f} %" if shown else "0 %"


def number(value: float | None, digits: int = 3) -> str:
    """A number with that many digits that count.

    Example:
        >>> number(0.12345), number(-2.0), number(1234.5)
        ('0.123', '-2.00', '1.23e+03')
    """
    return UNKNOWN if value is None or not math.isfinite(value) else f"{value:#.{digits}g}".rstrip(".")


def duration(seconds: float) -> str:
    """Example:
    >>> duration(42), duration(600), duration(7200), duration(200000)
    ('42 s', '10 min', '2 h', '2 d')
    """
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def age(time: str, now: str) -> float | None:
    """Seconds from one time of facts to another; None where one of them is none."""
    then, today = _parsed(time), _parsed(now)
    return None if then is None or today is None else (today - then).total_seconds()


def moment(time: str) -> Markup:
    """A time of a fact, short; whole for machines and on pointing at it. What is no time is shown as it is."""
    then = _parsed(time)
    if then is None:
        return tag("span", time)
    return tag("time", f"{then.day} {then:%b %H:%M}", datetime=time, title=time)


def ago(time: str, now: str) -> str:
    """How long ago a fact was; empty when that cannot be told."""
    seconds = age(time, now)
    return "" if seconds is None or seconds < 0 else f"{duration(seconds)} ago"


def _parsed(time: str) -> datetime | None:
    try:
        then = datetime.fromisoformat(time)
    except ValueError:
        return None
    return then if then.tzinfo is not None else None
