"""The commit marker: a pusher's promise that a checkpoint is complete, written after everything else.

``mergenode.commit.json`` inside a checkpoint directory, ``NAME.safetensors.commit.json`` beside a bare file::

    {"schema": "mergenode.commit/1",
     "content": "blake3:...",     optional: digest of the tensors, checked when folded
     "base": "blake3:...",        optional: digest of the base it was tuned from
     "weight": 1.0,               optional: finite, greater than zero
     "profile": {"*.mlp.*": 0.5}, optional: factors of the weight by tensor name pattern, at least 0
     "files": {"model.safetensors": {"size": 123}, "config.json": {"size": 9, "blake3": "..."}}}

A marker is a promise by somebody else: it is parsed strictly and never believed without a look at the files.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from blake3 import blake3

from mergenode.adapters.durable import disk_errors, replace_file
from mergenode.adapters.registries import names
from mergenode.errors import RejectedError, RejectReason, TransientError, TransientReason
from mergenode.types import LARGEST_FACTOR, Digest

SCHEMA = "mergenode.commit/1"
DIRECTORY_MARKER = "mergenode.commit.json"
FILE_MARKER_SUFFIX = ".commit.json"
MARKER_BYTES = 16 << 20
SIDE_FILE_BYTES = 4 << 20
"""Files other than weights carry their own digest up to this size."""

_KEYS = frozenset({"schema", "content", "base", "weight", "profile", "files"})
_FILE_KEYS = frozenset({"size", "blake3"})
_MAX_FILES = 100_000
_MAX_SIZE = 1 << 62
_MAX_PATTERNS = 100
_PATTERN_CHARACTERS = 500
_DIGEST = re.compile(r"blake3:[0-9a-f]{64}")
_HEX = re.compile(r"[0-9a-f]{64}")
_HINT = "Write the marker with `mergenode commit PATH` after all files are in place, or remove it."


@dataclass(frozen=True, slots=True)
class FilePromise:
    """Size in bytes and, for small files other than weights, the BLAKE3 digest (64 hexadecimal digits)."""

    size: int
    blake3: str | None = None


@dataclass(frozen=True, slots=True)
class Marker:
    """A parsed marker. ``files`` by name relative to the marker's directory, never empty."""

    files: Mapping[str, FilePromise]
    content: Digest | None = None
    weight: float = 1.0
    base: Digest | None = None
    profile: tuple[tuple[str, float], ...] = ()
    """Pattern and factor, sorted by pattern."""


def marker_path(checkpoint: Path) -> Path:
    """Where the marker of a checkpoint (directory or bare file) lies."""
    if checkpoint.is_dir():
        return checkpoint / DIRECTORY_MARKER
    return checkpoint.with_name(checkpoint.name + FILE_MARKER_SUFFIX)


def is_marker(name: str) -> bool:
    """True for the names that markers have, beside or inside a checkpoint."""
    return name == DIRECTORY_MARKER or name.endswith(names.WEIGHTS_SUFFIX + FILE_MARKER_SUFFIX)


def parse_marker(data: bytes, *, file: str) -> Marker:
    """Parse the bytes of a marker; ``file`` names it in messages.

    Raises:
        RejectedError: MARKER_INVALID for anything but exactly the documented form.
    """
    if len(data) > MARKER_BYTES:
        _refuse(file, f"it has more than {MARKER_BYTES} bytes")
    try:
        document = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        _refuse(file, f"it is not valid JSON: {names.printable(str(error))[:200]}", error)
    if not isinstance(document, dict):
        _refuse(file, "it is not a JSON object")
    if document.get("schema") != SCHEMA:
        _refuse(file, f"schema is {document.get('schema')!r:.80}, this version reads {SCHEMA!r}")
    unknown = sorted(document.keys() - _KEYS)
    if unknown:
        _refuse(file, f"unknown key {unknown[0]!r:.80}")
    return Marker(
        files=_files(document.get("files"), file),
        content=_digest(document, "content", file),
        weight=_weight(document.get("weight", 1.0), file),
        base=_digest(document, "base", file),
        profile=_profile(document.get("profile", {}), file),
    )


def read_marker(checkpoint: Path) -> Marker | None:
    """The marker of a checkpoint directory or bare file, None without one. Links are not followed.

    Raises:
        RejectedError: MARKER_INVALID.
        TransientError: READ_FAILED when the file system does not give it.
    """
    path = marker_path(checkpoint)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        if path.is_symlink():
            _refuse(str(path), "it is a symbolic link", error)
        raise TransientError(TransientReason.READ_FAILED, f"{path}: {error.strerror}") from error
    try:
        return parse_marker(read_marker_bytes(fd, file=str(path)), file=str(path))
    finally:
        os.close(fd)


def read_marker_bytes(fd: int, *, file: str) -> bytes:
    """All bytes of an open marker, bounded by the size cap.

    Raises:
        RejectedError: MARKER_INVALID when it is no regular file or too large.
    """
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        _refuse(file, "it is not a regular file")
    if status.st_size > MARKER_BYTES:
        _refuse(file, f"it has {status.st_size} bytes, more than {MARKER_BYTES}")
    with os.fdopen(os.dup(fd), "rb") as stream:
        return stream.read(MARKER_BYTES + 1)


def write_marker(
    checkpoint: Path,
    *,
    content: Digest | Callable[[Path], Digest] | None = None,
    weight: float = 1.0,
    base: Digest | None = None,
    profile: Mapping[str, float] | None = None,
) -> Path:
    """Write the marker of a complete checkpoint and return its path: what ``mergenode commit`` does.

    Args:
        checkpoint: a checkpoint directory, or a bare ``.safetensors`` file.
        content: digest of the tensors, or the function that computes it.
        weight: what the contribution is multiplied with when it is folded.
        base: digest of the base it was tuned from.
        profile: factors of ``weight`` by tensor name pattern; those of all that match are multiplied.

    Durability: the marker and its name are synced on return; a reader sees no marker or all of it.
    Idempotence: the same files give the same marker.

    Raises:
        RejectedError: NO_WEIGHTS or PICKLE_ONLY when there is nothing to commit, MARKER_INVALID for a bad
            weight, profile or digest, PATH_UNSAFE for file names that a marker cannot hold.
        TransientError: CHANGED_WHILE_READING when a file changed meanwhile; DISK_FULL, READ_FAILED,
            WRITE_FAILED.
    """
    target = marker_path(checkpoint)
    before = _committed_files(checkpoint)
    document: dict[str, object] = {
        "schema": SCHEMA,
        "content": content(checkpoint) if callable(content) else content,
    }
    document |= {"base": base, "weight": None if _weight(weight, str(target)) == 1.0 else weight}
    document["profile"] = dict(_profile(dict(profile or {}), str(target))) or None
    document["files"] = {name: _promise(checkpoint, name, status) for name, status in before.items()}
    if _stamps(before) != _stamps(_committed_files(checkpoint)):
        raise TransientError(
            TransientReason.CHANGED_WHILE_READING,
            f"{checkpoint}: its files changed while the marker was made",
            hint="Commit when the checkpoint is completely written.",
        )
    given = {key: value for key, value in document.items() if value is not None}
    data = json.dumps(given, indent=1, sort_keys=True).encode() + b"\n"
    parse_marker(data, file=str(target))
    with disk_errors(target):
        replace_file(target, data)
    return target


def _committed_files(checkpoint: Path) -> dict[str, os.stat_result]:
    """Names and status of the files that a marker speaks of: weights, index and configuration."""
    try:
        if not checkpoint.is_dir():
            beside = [checkpoint.with_name(name) for name in names.side_cars_of(checkpoint.name)]
            there = [checkpoint, *(path for path in beside if path.exists())]
            found = {path.name: path.stat() for path in there} if names.is_weights(checkpoint.name) else {}
            others = [checkpoint.name]
        else:
            others = sorted(path.name for path in checkpoint.iterdir())
            found = {name: (checkpoint / name).stat() for name in others if names.defines_content(name)}
    except OSError as error:
        raise TransientError(
            TransientReason.READ_FAILED, f"{error.filename or checkpoint}: {error.strerror}"
        ) from error
    for name in found:
        if not names.is_plain(name):
            raise RejectedError(
                RejectReason.PATH_UNSAFE,
                f"{checkpoint}: the file name {names.printable(name)!r} cannot be committed",
                hint="Rename the file: printable characters, valid UTF-8.",
            )
    if any(names.is_weights(name) for name in found):
        return found
    if any(names.is_pickle(name) for name in others):
        raise RejectedError(
            RejectReason.PICKLE_ONLY,
            f"{checkpoint}: only pickled weights, which are never opened",
            hint="Save the model as safetensors (`save_pretrained(..., safe_serialization=True)`).",
        )
    raise RejectedError(
        RejectReason.NO_WEIGHTS,
        f"{checkpoint}: no .safetensors file to commit",
        hint="Name a checkpoint directory or a .safetensors file.",
    )


def _promise(checkpoint: Path, name: str, status: os.stat_result) -> dict[str, object]:
    promise: dict[str, object] = {"size": status.st_size}
    if not names.is_safetensors(name) and status.st_size <= SIDE_FILE_BYTES:
        try:
            promise["blake3"] = blake3((checkpoint / name).read_bytes()).hexdigest()
        except OSError as error:
            raise TransientError(TransientReason.READ_FAILED, f"{checkpoint / name}: {error.strerror}") from error
    return promise


def _stamps(files: Mapping[str, os.stat_result]) -> dict[str, tuple[int, ...]]:
    return {name: (s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns) for name, s in files.items()}


def _files(value: object, file: str) -> dict[str, FilePromise]:
    if not isinstance(value, dict) or not value:
        _refuse(file, "'files' must be an object that names at least one file")
    if len(value) > _MAX_FILES:
        _refuse(file, f"'files' names {len(value)} files, more than {_MAX_FILES}")
    promises = {}
    for name, entry in value.items():
        shown = names.printable(name)[:120]
        if not names.is_plain_relative(name):
            _refuse(file, f"file name {shown!r} is not a plain relative path")
        if not isinstance(entry, dict) or not {"size"} <= entry.keys() <= _FILE_KEYS:
            _refuse(file, f"the entry of {shown!r} must hold 'size' and at most 'blake3'")
        size, digest = entry["size"], entry.get("blake3")
        if type(size) is not int or not 0 <= size <= _MAX_SIZE:
            _refuse(file, f"the size of {shown!r} is not a number of bytes")
        if digest is not None and not (isinstance(digest, str) and _HEX.fullmatch(digest)):
            _refuse(file, f"the blake3 of {shown!r} is not 64 hexadecimal digits")
        promises[name] = FilePromise(size, digest)
    return promises


def _digest(document: Mapping[str, object], key: str, file: str) -> Digest | None:
    if key not in document:
        return None
    value = document[key]
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        _refuse(file, f"{key!r} is {value!r:.80}, not 'blake3:' and 64 hexadecimal digits")
    return Digest(value)


def _weight(value: object, file: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse(file, f"'weight' is {value!r:.80}, not a number")
    try:
        weight = float(value)
    except OverflowError:
        weight = math.inf
    if not (math.isfinite(weight) and weight > 0):
        _refuse(file, f"'weight' is {weight}, it must be finite and greater than zero")
    return weight


def _profile(value: object, file: str) -> tuple[tuple[str, float], ...]:
    if not isinstance(value, dict):
        _refuse(file, f"'profile' is {value!r:.80}, not an object of factors by tensor name pattern")
    if len(value) > _MAX_PATTERNS:
        _refuse(file, f"'profile' holds {len(value)} patterns, more than {_MAX_PATTERNS}")
    for pattern, factor in value.items():
        if not isinstance(pattern, str) or not 0 < len(pattern) <= _PATTERN_CHARACTERS:
            _refuse(file, f"the pattern {pattern!r:.80} of 'profile' has not 1 to {_PATTERN_CHARACTERS} characters")
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 <= factor <= LARGEST_FACTOR:
            _refuse(file, f"the factor of {pattern!r:.80} in 'profile' is {factor!r:.40}, not a number from 0 to 1e6")
    return tuple(sorted((pattern, float(factor)) for pattern, factor in value.items()))


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


def _no_constant(value: str) -> NoReturn:
    raise ValueError(f"{value} is not a JSON number")


def _refuse(file: str, why: str, cause: BaseException | None = None) -> NoReturn:
    raise RejectedError(RejectReason.MARKER_INVALID, f"{names.printable(file)}: {why}", hint=_HINT) from cause
