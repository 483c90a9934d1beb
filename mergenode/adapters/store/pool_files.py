"""The index of a pool below ``state/pool``: a sketch per content, what lies where, losses of contents by themselves.

All kinds of files look the same: a line that names the kind, the length of a JSON object, the object, data, and a
digest of all that. A file that is damaged, cut or of another version is no file: what it held is made again.
"""

from __future__ import annotations

import json
import os
import re
from collections import deque
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from struct import Struct
from typing import Any, BinaryIO

from blake3 import blake3

from mergenode.adapters.durable import disk_errors, replace_file
from mergenode.ports.task import MOST_SAMPLES
from mergenode.types import Digest

_SKETCH, _PLACE, _LOSSES = b"mergenode.sketch/1\n", b"mergenode.place/1\n", b"mergenode.losses/1\n"
_SKETCH_SUFFIX, _PLACE_SUFFIX, _LOSSES_SUFFIX = ".sketch", ".place", ".losses"
_LOSS = Struct("<d")
_DIGEST = re.compile(r"blake3:[0-9a-f]{64}")
_LENGTH_BYTES, _CHECK_BYTES = 8, 32
_AHEAD = 64
_MAX_FACTS = 16 << 20
"""Largest JSON object. A model has a few hundred layer groups of some ten bytes; the rest is distrust."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One file: ``facts`` is a JSON object, ``data`` are raw bytes, both as they were handed in."""

    facts: Mapping[str, Any]
    data: bytes | memoryview = b""


@dataclass(frozen=True, slots=True)
class PoolFiles:
    """Reads and writes the folder. ``scheme``: what all sketches have in common; others count as absent.

    ``data_bytes``: what the data of every sketch take; a larger file is not read.
    """

    folder: Path
    scheme: str
    data_bytes: int

    def sketch(self, content: Digest) -> Stored | None:
        """The sketch of a content, or None when there is none that can be used."""
        return self._usable(content, _read(self._sketch_path(content), _SKETCH, self.data_bytes))

    def sketches(self) -> Generator[tuple[Digest, Stored]]:
        """Every usable sketch, sorted by content, one in memory at a time."""
        contents = [Digest(f"blake3:{name}") for name in self._names(_SKETCH_SUFFIX)]
        with ExitStack() as stack:
            opened: deque[tuple[Digest, BinaryIO]] = deque()
            stack.callback(lambda: [file.close() for _, file in opened])
            for content in filter(is_digest, contents):
                opened += self._opened_ahead(content)
                if len(opened) > _AHEAD:
                    yield from self._next(opened)
            while opened:
                yield from self._next(opened)

    def _opened_ahead(self, content: Digest) -> Iterator[tuple[Digest, BinaryIO]]:
        """A sketch that is wanted soon: small files read one by one would wait for the disk each."""
        with suppress(OSError):
            file = open(self._sketch_path(content), "rb", buffering=0)  # noqa: SIM115  # its turn closes it
            with suppress(OSError):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
            yield content, file

    def _next(self, opened: deque[tuple[Digest, BinaryIO]]) -> Iterator[tuple[Digest, Stored]]:
        content, file = opened.popleft()
        with file:
            stored = self._usable(content, _parse(file, _SKETCH, self.data_bytes))
        if stored is not None:
            yield content, stored

    def _usable(self, content: Digest, stored: Stored | None) -> Stored | None:
        if stored is None or len(stored.data) != self.data_bytes:
            return None
        same = stored.facts.get("scheme") == self.scheme and stored.facts.get("content") == content
        return stored if same else None

    def save_sketch(self, content: Digest, facts: Mapping[str, Any], data: bytes) -> None:
        """Set the sketch of a content. Durability: synced on return. Idempotence: the same call, the same file."""
        self._write(self._sketch_path(content), _SKETCH, {**facts, "content": content, "scheme": self.scheme}, data)

    def losses(self, content: Digest, objective: str) -> tuple[float, ...] | None:
        """What ``save_losses`` got for this content and this objective; None: nothing that can be used."""
        stored = _read(self._losses_path(content), _LOSSES, _LOSS.size * MOST_SAMPLES)
        if stored is None or (stored.facts.get("content"), stored.facts.get("objective")) != (content, objective):
            return None
        if not stored.data or len(stored.data) % _LOSS.size:
            return None
        found = tuple(value for (value,) in _LOSS.iter_unpack(stored.data))
        return None if any(map(isnan, found)) else found

    def save_losses(self, content: Digest, objective: str, losses: Sequence[float]) -> None:
        """Set the losses of a content by sample, in place of those for another objective.

        Durability: synced on return. Raises TransientError: DISK_FULL, WRITE_FAILED.
        """
        facts = {"content": content, "objective": objective}
        self._write(self._losses_path(content), _LOSSES, facts, b"".join(map(_LOSS.pack, losses)))

    def place(self, location: str) -> Mapping[str, Any] | None:
        """What was found at a location when it was read, or None."""
        stored = _read(self._place_path(location), _PLACE, 0)
        if stored is None or stored.facts.get("location") != location or not is_digest(stored.facts.get("content")):
            return None
        return stored.facts

    def places(self) -> Iterator[Mapping[str, Any]]:
        """Every place, sorted by file name."""
        for name in self._names(_PLACE_SUFFIX):
            stored = _read(self.folder / f"{name}{_PLACE_SUFFIX}", _PLACE, 0)
            if stored is not None and is_digest(stored.facts.get("content")):
                yield stored.facts

    def save_place(self, location: str, facts: Mapping[str, Any]) -> None:
        """Set what lies at a location. Durability: synced on return."""
        self._write(self._place_path(location), _PLACE, {**facts, "location": location}, b"")

    def keep(self, contents: Collection[Digest]) -> None:
        """Remove what is about other contents, and what an interrupted write left. Idempotent."""
        wanted = {path(content).name for content in contents for path in (self._sketch_path, self._losses_path)}
        with disk_errors(self.folder):
            for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else []:
                stored = _read(path, _PLACE, 0) if path.name.endswith(_PLACE_SUFFIX) else None
                kept = path.name in wanted or (stored is not None and stored.facts.get("content") in contents)
                if not kept:
                    path.unlink(missing_ok=True)

    def _names(self, suffix: str) -> list[str]:
        with disk_errors(self.folder):
            names = os.listdir(self.folder) if self.folder.is_dir() else []
        return sorted(name.removesuffix(suffix) for name in names if name.endswith(suffix) and name[0] != ".")

    def _sketch_path(self, content: Digest) -> Path:
        return self.folder / f"{_plain(content)}{_SKETCH_SUFFIX}"

    def _losses_path(self, content: Digest) -> Path:
        return self.folder / f"{_plain(content)}{_LOSSES_SUFFIX}"

    def _place_path(self, location: str) -> Path:
        return self.folder / f"{blake3(os.fsencode(location)).hexdigest()[:32]}{_PLACE_SUFFIX}"

    def _write(self, path: Path, kind: bytes, facts: Mapping[str, Any], data: bytes) -> None:
        text = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
        body = kind + len(text).to_bytes(_LENGTH_BYTES, "little") + text + data
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            replace_file(path, body + blake3(body).digest())


def _plain(content: Digest) -> str:
    if not is_digest(content):
        raise ValueError(f"{content!r} is no content digest")
    return content.removeprefix("blake3:")


def is_digest(text: object) -> bool:
    """Whether this is a content digest, of which the hexadecimal part is safe as a name."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def _read(path: Path, kind: bytes, max_data: int) -> Stored | None:
    try:
        with open(path, "rb", buffering=0) as file:
            return _parse(file, kind, max_data)
    except OSError:
        return None


def _parse(file: BinaryIO, kind: bytes, max_data: int) -> Stored | None:
    most = len(kind) + _LENGTH_BYTES + _MAX_FACTS + max_data + _CHECK_BYTES
    try:
        size = os.fstat(file.fileno()).st_size
        raw = file.read(size) if size <= most else b""
    except OSError:
        return None
    body, check = memoryview(raw)[:-_CHECK_BYTES], raw[-_CHECK_BYTES:]
    if len(raw) != size or body[: len(kind)] != kind or blake3(body).digest() != check:
        return None
    start = len(kind) + _LENGTH_BYTES
    length = int.from_bytes(body[len(kind) : start], "little")
    if start + length > len(body) or len(body) - start - length > max_data:
        return None
    try:
        facts = json.loads(bytes(body[start : start + length]))
    except ValueError:
        return None
    return Stored(facts, body[start + length :]) if isinstance(facts, dict) else None
