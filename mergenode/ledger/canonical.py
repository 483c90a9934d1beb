"""Canonical JSON: one text per value, so that texts can be hashed and compared instead of values.

Keys sorted, no spaces, ASCII only, floats by their shortest exact ``repr`` (so they come back bit for bit),
NaN and infinities refused, keys are strings and never repeat.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any


def canonical(value: Any) -> str:
    """The canonical text of a JSON value. Tuples count as lists.

    Raises:
        ValueError: not a JSON value, or a number that is not finite; the message says where.
    """
    return json.dumps(_plain(value, "$"), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def parse(text: str) -> Any:
    """The value of a JSON text, as strict as ``canonical``: refuses repeated keys, NaN, infinities and
    overflow.

    Raises:
        ValueError: the text is not JSON of that kind.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_without_repeats, parse_constant=_refuse_constant, parse_float=_finite
        )
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _plain(value: Any, where: str) -> Any:
    """The same value out of JSON's own types only; enumerations are reduced to what they stand for."""
    match value:
        case None | bool():
            return value
        case str():
            return str.__str__(value)
        case int():
            return int(value)
        case float():
            if not math.isfinite(value):
                raise ValueError(f"{where} is {value}, not a finite number")
            return float(value)
        case Mapping():
            return {_key(key, where): _plain(item, f"{where}.{key}") for key, item in value.items()}
        case Sequence() if isinstance(value, list | tuple):
            return [_plain(item, f"{where}[{place}]") for place, item in enumerate(value)]
    raise ValueError(f"{where} is a {type(value).__name__}, not a JSON value")


def _key(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise ValueError(f"{where} has the key {key!r}, not a string")
    return str.__str__(key)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object names the same key twice")
    return found


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a finite number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value
