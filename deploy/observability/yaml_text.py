"""YAML of dictionaries, lists and scalars, in the order that they have. Long text as blocks, for people who read it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

_PLAIN = re.compile(r"[A-Za-z_][\w.]*( [\w.]+)*|\d+[smhd]")
_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


def yaml_text(value: object, indent: int = 0) -> str:
    """The document, one final newline.

    Example:
        >>> print(yaml_text({"groups": [{"name": "a", "for": "5m"}], "expr": "a > 1"}), end="")
        groups:
          - name: a
            for: 5m
        expr: "a > 1"
    """
    pad = " " * indent
    if isinstance(value, Mapping):
        return "".join(f"{pad}{_scalar(key)}:{_after(item, indent + 2)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "".join(f"{pad}- {yaml_text(item, indent + 2).lstrip()}" for item in value)
    return f"{pad}{_scalar(value)}\n"


def _after(value: object, indent: int) -> str:
    """What follows a key and its colon."""
    if isinstance(value, Mapping) and value:
        return "\n" + yaml_text(value, indent)
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        return "\n" + yaml_text(value, indent)
    return f" {_scalar(value)}\n"


def _scalar(value: object) -> str:
    """JSON is YAML: what is not plainly a word is quoted."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)
