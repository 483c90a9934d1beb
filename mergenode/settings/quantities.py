"""How people write sizes, addresses and paths in a settings file, and what they become."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated

from pydantic import PlainValidator, ValidationInfo, WithJsonSchema

_UNITS = {
    "": 1, "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")
_PORT_MAX = 65535

PLAIN_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
"""Names that are safe in metric labels, file names and DNS-like contexts."""


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


def parse_address(value: object) -> str | None:
    """``host:port`` as written, checked; None switches the listener off.

    Raises:
        ValueError: no host, no port, or a port outside 0..65535.
    """
    if value is None:
        return None
    if isinstance(value, str):
        host, _, port = value.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if host and (bracketed or ":" not in host) and port.isascii() and port.isdigit() and int(port) <= _PORT_MAX:
            return value
    raise ValueError("host:port such as 127.0.0.1:9464 or [::1]:9464, or null to switch it off")


def split_address(address: str) -> tuple[str, int]:
    """Host without brackets, and port, of an address that ``parse_address`` accepted.

    Example:
        >>> split_address("[::1]:9464")
        ('::1', 9464)
    """
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def resolve_path(value: object, info: ValidationInfo) -> Path:
    """An absolute path; a relative one counts from the directory of the settings file, ``~`` is home.

    Raises:
        ValueError: not a text, empty, or with a NUL byte.
    """
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError("a path; a relative one counts from the directory of this file")
    directory = Path((info.context or {}).get("directory", "."))
    try:
        expanded = Path(value).expanduser()
    except RuntimeError as error:  # ~nobody-of-that-name
        raise ValueError("a path whose ~ names an existing user") from error
    return (directory / expanded).absolute()


def auto_or_count(value: object) -> int | None:
    """A count of at least one, or None for ``auto``. Raises ValueError otherwise."""
    if value == "auto":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1024:
        return value
    raise ValueError("'auto' or a number from 1 to 1024")


_SIZE_SCHEMA: dict[str, object] = {
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s*([kKmMgGtT][iI]?)?[bB]?$"},
    ]
}

Size = Annotated[int, PlainValidator(parse_size), WithJsonSchema(_SIZE_SCHEMA)]
"""Bytes."""

ConfigPath = Annotated[Path, PlainValidator(resolve_path), WithJsonSchema({"type": "string", "minLength": 1})]
"""Absolute after loading."""

Address = Annotated[str | None, PlainValidator(parse_address), WithJsonSchema({"type": ["string", "null"]})]

AutoOrCount = Annotated[
    int | None,
    PlainValidator(auto_or_count),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 1024}]}),
]
"""None when the file says ``auto``."""
