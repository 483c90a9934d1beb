"""What the files of an entry say about themselves: headers, indexes, markers. Bounded reads."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass

from blake3 import blake3

from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.registries import names
from mergenode.adapters.registries.extent import declared_bytes
from mergenode.adapters.registries.marker import (
    SIDE_FILE_BYTES,
    Marker,
    is_marker,
    parse_marker,
    read_marker_bytes,
)
from mergenode.adapters.registries.walk import Found, Problem
from mergenode.errors import RejectedError, RejectReason

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_READ_HINT = "Give the node's user permission to read it."


@dataclass(frozen=True, slots=True)
class Said:
    """``declared``: bytes a safetensors header asks for. ``shards``: file names an index speaks of."""

    declared: int | None = None
    blake3: str | None = None
    shards: tuple[str, ...] = ()
    marker: Marker | None = None
    problem: Problem | None = None


class SmallFiles:
    """Reads the files of one entry, again only when they changed since the ``previous`` reading."""

    def __init__(self, limits: Limits, previous: SmallFiles | None = None) -> None:
        self._limits = limits
        self._previous = previous._kept if previous is not None else {}
        self._kept: dict[tuple[str, bool], tuple[tuple[int, ...], Said]] = {}

    def say(self, found: Found, *, promised: bool = False) -> Said:
        """What one file says; ``promised`` asks for the digest of a small file, too.

        A file that vanished or was swapped meanwhile says nothing: the next listing tells. Raises OSError
        when the file system fails.
        """
        if not (promised or is_marker(found.name) or names.is_safetensors(found.name) or names.is_index(found.name)):
            return Said()
        key = (found.name, promised)
        stamp, said = self._previous.get(key, ((), Said()))
        if stamp != found.stamp:
            try:
                fd = os.open(found.path, _OPEN)
            except OSError as error:
                return _unopened(found, error)
            try:
                said = _read_open(fd, found, promised, self._limits)
            except RejectedError as error:
                said = Said(problem=Problem(error.reason, error.message, error.hint))
            finally:
                os.close(fd)
        self._kept[key] = (found.stamp, said)
        return said


def _unopened(found: Found, error: OSError) -> Said:
    """Never kept: this can change without any change to the file, as permissions of its directory do."""
    if isinstance(error, PermissionError):
        message = f"{names.printable(found.path)}: permission denied"
        return Said(problem=Problem(RejectReason.PATH_UNSAFE, message, _READ_HINT))
    if os.path.lexists(found.path) and not os.path.islink(found.path):
        raise error
    return Said()


def _read_open(fd: int, found: Found, promised: bool, limits: Limits) -> Said:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        return Said()
    if is_marker(found.name):
        return Said(marker=parse_marker(read_marker_bytes(fd, file=found.path), file=found.path))
    if names.is_safetensors(found.name):
        return Said(declared=declared_bytes(fd, status.st_size, limits.header_bytes))
    digest: str | None = None
    shards: tuple[str, ...] = ()
    if promised and status.st_size <= SIDE_FILE_BYTES:
        digest = blake3(_content(fd, SIDE_FILE_BYTES)).hexdigest()
    if names.is_index(found.name) and status.st_size <= limits.index_bytes:
        shards = _shards(_content(fd, limits.index_bytes))
    return Said(blake3=digest, shards=shards)


def _content(fd: int, cap: int) -> bytes:
    with os.fdopen(os.dup(fd), "rb") as stream:
        stream.seek(0)
        return stream.read(cap)


def _shards(data: bytes) -> tuple[str, ...]:
    """Shard names of an index; none when it is invalid or unsafe: waiting cannot help that."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return ()
    weight_map = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(weight_map, dict):
        return ()
    if not all(isinstance(shard, str) and names.is_plain(shard) for shard in weight_map.values()):
        return ()
    return tuple(sorted(set(weight_map.values())))
