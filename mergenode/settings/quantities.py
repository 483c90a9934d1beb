"""How people write sizes, addresses and paths in a settings file, and what they become."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import PlainValidator, ValidationInfo, WithJsonSchema

from mergenode.sizes import parse_size
from mergenode.types import LARGEST_FACTOR

_PORT_MAX = 65535

PLAIN_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
"""Names that are safe in metric labels, file names and DNS-like contexts."""


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


SCALE_WORDS = ("own", "norm_match", "evaluate")


def scale_word_or_factor(value: object) -> str | float:
    """One of ``SCALE_WORDS`` or a number of at most ``LARGEST_FACTOR`` in size, as written. Raises ValueError."""
    if isinstance(value, str) and value in SCALE_WORDS:
        return value
    # NaN compares as too large
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST_FACTOR:
        raise ValueError(
            f"{', '.join(map(repr, SCALE_WORDS))} or a number from -{LARGEST_FACTOR:.0f} to {LARGEST_FACTOR:.0f}"
        )
    return float(value)


_FACTOR_SCHEMA: dict[str, object] = {"type": "number", "minimum": -LARGEST_FACTOR, "maximum": LARGEST_FACTOR}

ScaleChoice = Annotated[
    str | float,
    PlainValidator(scale_word_or_factor),
    WithJsonSchema({"anyOf": [{"enum": list(SCALE_WORDS)}, _FACTOR_SCHEMA]}),
]
"""How much of the merged task vector is published; what the words mean is the method's affair."""

AutoOrCount = Annotated[
    int | None,
    PlainValidator(auto_or_count),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 1024}]}),
]
"""None when the file says ``auto``."""
