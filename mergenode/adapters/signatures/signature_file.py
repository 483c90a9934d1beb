"""The file ``mergenode.sig.json`` beside the weights, ``NAME.safetensors.sig.json`` beside a bare file::

    {"schema": "mergenode.signature/1",
     "key": "ed25519:<64 hexadecimal digits>",
     "signature": "<128 hexadecimal digits>",
     "statement": {"content": "blake3:...",
                   "files": {"config.json": {"size": 9, "blake3": "..."}}}}

The statement is what is signed, in canonical form behind a fixed line, so that no signature made for anything else is
one of it. ``content`` is the digest of the weights and of the settings of an adapter, whatever files and shards carry
them: it survives a push and a new sharding. ``files`` are the other files that decide what a contribution means:
configuration and side-cars.

The file comes from outside: it is bounded, parsed strictly, and names in it are compared, never opened as paths.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from mergenode.adapters.checkpoints.side_car_names import is_side_car
from mergenode.adapters.registries.names import CONFIG_NAMES, is_plain, printable
from mergenode.adapters.signatures.keys import KEY_WORD
from mergenode.types import Digest

SCHEMA = "mergenode.signature/1"
DIRECTORY_SIGNATURE = "mergenode.sig.json"
FILE_SIGNATURE_SUFFIX = ".sig.json"
SIGNATURE_BYTES = 64 << 10

_DOMAIN = b"mergenode/signature/1\n"
_MOST_FILES = 100
_MOST_BYTES = 1 << 62
_CONTENT = re.compile(r"blake3:[0-9a-f]{64}")
_HEX = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(r"[0-9a-f]{128}")


@dataclass(frozen=True, slots=True)
class SignedFile:
    """Size in bytes and BLAKE3 digest (64 hexadecimal digits) of one file."""

    size: int
    blake3: str


@dataclass(frozen=True, slots=True)
class Statement:
    """What is signed. ``files`` by plain name."""

    content: Digest
    files: Mapping[str, SignedFile]

    def message(self) -> bytes:
        """The bytes under the signature: equal for equal statements, and for nothing else."""
        return _DOMAIN + json.dumps(self.entry(), sort_keys=True, separators=(",", ":")).encode("ascii")

    def entry(self) -> dict[str, Any]:
        return {"content": self.content, "files": {name: asdict(file) for name, file in self.files.items()}}


@dataclass(frozen=True, slots=True)
class Signature:
    """A parsed file; nothing in it is believed yet."""

    key: str
    signature: bytes
    statement: Statement

    def to_bytes(self) -> bytes:
        document = {"schema": SCHEMA, "key": self.key, "signature": self.signature.hex()}
        return json.dumps({**document, "statement": self.statement.entry()}, indent=1, sort_keys=True).encode() + b"\n"


def signature_path(checkpoint: Path) -> Path:
    """Where the signature of a checkpoint (directory or bare file) lies."""
    if checkpoint.is_dir():
        return checkpoint / DIRECTORY_SIGNATURE
    return checkpoint.with_name(checkpoint.name + FILE_SIGNATURE_SUFFIX)


def may_be_signed(name: str) -> bool:
    """True for files that a statement names one by one: configuration and side-cars."""
    return name in CONFIG_NAMES or (is_side_car(name) and is_plain(name))


def parse_signature(data: bytes) -> Signature:
    """Raises ValueError, with what is wrong, for anything but exactly the documented form."""
    if len(data) > SIGNATURE_BYTES:
        raise ValueError(f"it has more than {SIGNATURE_BYTES} bytes")
    try:
        document = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    _expect(document, {"schema", "key", "signature", "statement"}, "it")
    if document["schema"] != SCHEMA:
        raise ValueError(f"schema is {document['schema']!r:.80}, this version reads {SCHEMA!r}")
    statement = document["statement"]
    _expect(statement, {"content", "files"}, "the statement")
    return Signature(
        key=_text(document, "key", KEY_WORD),
        signature=bytes.fromhex(_text(document, "signature", _SIGNATURE)),
        statement=Statement(Digest(_text(statement, "content", _CONTENT)), _files(statement["files"])),
    )


def _files(value: object) -> dict[str, SignedFile]:
    if not isinstance(value, dict) or len(value) > _MOST_FILES:
        raise ValueError(f"'files' is not an object of at most {_MOST_FILES} files")
    found: dict[str, SignedFile] = {}
    for name, entry in value.items():
        shown = printable(name)[:80]
        if not may_be_signed(name):
            raise ValueError(f"'files' names {shown!r}, which is neither configuration nor a side-car")
        _expect(entry, {"size", "blake3"}, f"the entry of {shown!r}")
        size = entry["size"]
        if type(size) is not int or not 0 <= size <= _MOST_BYTES:
            raise ValueError(f"the size of {shown!r} is not a number of bytes")
        found[name] = SignedFile(size, _text(entry, "blake3", _HEX))
    return found


def _expect(value: object, keys: set[str], what: str) -> None:
    if not isinstance(value, dict) or set(value) != keys:
        raise ValueError(f"{what} is not an object of {', '.join(sorted(keys))}")


def _text(document: Mapping[str, object], key: str, pattern: re.Pattern[str]) -> str:
    value = document[key]
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"{key!r} is {value!r:.80}, not of the form {pattern.pattern}")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _no_constant(value: str) -> NoReturn:
    raise ValueError(f"{value} is not a JSON number")
