"""One entry of a registry: its files, its revision, what its small files say. No weights are read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from mergenode.adapters.checkpoints.limits import Limits
from mergenode.adapters.registries import names
from mergenode.adapters.registries.completeness import EntrySeen, FileSeen
from mergenode.adapters.registries.marker import DIRECTORY_MARKER, FILE_MARKER_SUFFIX, Marker
from mergenode.adapters.registries.small_files import Said, SmallFiles
from mergenode.adapters.registries.walk import Found, Problem, Walked, walk_entry
from mergenode.errors import RejectReason
from mergenode.types import Candidate

_PICKLE_HINT = "Save it as safetensors (`save_pretrained(..., safe_serialization=True)`); pickles are never opened."


@dataclass(frozen=True, slots=True)
class Entry:
    """An inspected entry. ``revision`` changes with every file that defines its content."""

    seen: EntrySeen
    location: str
    revision: str
    size_bytes: int
    problem: Problem | None = None

    @property
    def problem_revision(self) -> str:
        """Revision of a refused entry: any change on disk, permissions included, is worth another look."""
        return f"refused:{self.seen.fingerprint.hex()}"

    def candidate(self, registry: str, *, attested: bool, forced: bool = False) -> Candidate:
        """The entry as ``registry`` offers it."""
        marker = self.seen.marker
        return Candidate(
            registry=registry, name=self.seen.name, revision=self.revision, location=self.location,
            size_bytes=self.size_bytes, weight=marker.weight if marker else 1.0,
            content=marker.content if marker else None, attested=attested, forced=forced,
            base=marker.base if marker else None, profile=marker.profile if marker else (),
        )  # fmt: skip


class EntryReader:
    """Inspects entries below one root; what small files say is kept until their time stamps or inodes change.

    The memory is bounded by the entries that are listed: call ``keep_only`` after each listing.
    """

    def __init__(self, root: Path, limits: Limits) -> None:
        self._root = os.path.realpath(root)
        self._limits = limits
        self._small: dict[str, SmallFiles] = {}

    @property
    def root(self) -> str:
        """The resolved root: what links may lead to."""
        return self._root

    def keep_only(self, entries: Iterable[str]) -> None:
        """Forget everything about entries of other names."""
        self._small = {name: self._small[name] for name in entries if name in self._small}

    def read(self, path: Path, name: str) -> Entry | None:
        """Inspect a checkpoint directory or a bare file; None when nothing about it looks like a checkpoint.

        Raises OSError, FileNotFoundError when it vanished.
        """
        walked = walk_entry(path, self._root, self._limits.directory_entries) if path.is_dir() else _walk_file(path)
        if walked.problem is None and not any(_is_relevant(found.name) for found in walked.files):
            return None
        return self._entry(path, name, walked)

    def _entry(self, path: Path, name: str, walked: Walked) -> Entry:
        small = self._small[name] = SmallFiles(self._limits, self._small.get(name))
        own_marker = DIRECTORY_MARKER if walked.directories else path.name + FILE_MARKER_SUFFIX
        marker_file = next((found for found in walked.files if found.name == own_marker), None)
        said_by_marker = small.say(marker_file) if marker_file is not None else Said()
        marker = said_by_marker.marker
        promised = marker.files if marker is not None else {}
        files = [found for found in walked.files if found is not marker_file]
        said = [small.say(found, promised=found.name in promised) for found in files]
        for answer in (said_by_marker, *said):
            if answer.problem is not None:
                walked.report(answer.problem)
        top = [found for found in files if "/" not in found.name]
        shards = {s for found, answer in zip(files, said, strict=True) if "/" not in found.name for s in answer.shards}
        _report_pickles(walked, path, top, shards)
        seen = EntrySeen(
            name=name,
            files=tuple(_seen(found, answer) for found, answer in zip(files, said, strict=True)),
            newest_change_ns=max(stamp[-1] for stamp in _stamps(walked)),
            shards=tuple(sorted(shards)),
            marker=marker,
            marker_change_ns=marker_file.status.st_ctime_ns if marker_file is not None else 0,
            nested=next((found.name for found in files if "/" in found.name and names.is_weights(found.name)), None),
            fingerprint=_fingerprint(walked),
        )
        size = sum(found.status.st_size for found in top if names.is_weights(found.name))
        return Entry(seen, str(path), _revision(top, marker), size, walked.problem)


def _walk_file(path: Path) -> Walked:
    """A bare file, the side-cars and the marker beside it."""
    walked = Walked(files=[Found(path.name, str(path), os.lstat(path))])
    companions = (*names.side_cars_of(path.name), path.name + FILE_MARKER_SUFFIX)
    for name in companions if names.is_weights(path.name) else ():
        if os.path.lexists(path.with_name(name)):
            walked.files.append(Found(name, str(path.with_name(name)), os.lstat(path.with_name(name))))
    return walked


def _is_relevant(name: str) -> bool:
    return names.WEIGHTS_SUFFIX in name or ("/" not in name and (names.defines_content(name) or names.is_pickle(name)))


def _seen(found: Found, said: Said) -> FileSeen:
    status = found.status
    return FileSeen(
        name=found.name,
        size=status.st_size,
        ctime_ns=status.st_ctime_ns,
        declared=said.declared,
        blake3=said.blake3,
    )


def _report_pickles(walked: Walked, path: Path, top: Sequence[Found], shards: set[str]) -> None:
    pickles = [found.name for found in top if names.is_pickle(found.name)]
    if pickles and not shards and not any(names.is_weights(found.name) for found in top):
        shown = names.printable(str(path if path.name == pickles[0] else path / pickles[0]))
        walked.report(Problem(RejectReason.PICKLE_ONLY, f"{shown}: pickled weights only", _PICKLE_HINT))


def _stamps(walked: Walked) -> list[tuple[int, ...]]:
    return [*walked.directories, *(found.stamp for found in walked.files)]


def _fingerprint(walked: Walked) -> bytes:
    hasher = blake3()
    for found in sorted(walked.files, key=lambda found: found.name):
        hasher.update(found.name.encode("utf-8", "surrogateescape") + b"\0")
    hasher.update(repr(sorted(_stamps(walked))).encode())
    return hasher.digest(16)


def _revision(top: Sequence[Found], marker: Marker | None) -> str:
    """Digest of the listing (names, sizes, modification times), led by the promised content if any.

    The listing stays part of it: files that were damaged under way and copied again are worth another look.
    """
    hasher = blake3()
    for found in sorted(top, key=lambda found: found.name):
        if names.defines_content(found.name):
            hasher.update(found.name.encode("utf-8", "surrogateescape") + b"\0")
            hasher.update(f"{found.status.st_size} {found.status.st_mtime_ns}\n".encode())
    if marker is not None and marker.content is not None:
        return f"content:{marker.content}/{hasher.hexdigest(8)}"
    return f"listing:{hasher.hexdigest()}"
