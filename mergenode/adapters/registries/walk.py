"""One bounded look at the files of an entry: names, sizes and times, no link followed out of the root."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mergenode.adapters.registries import names
from mergenode.adapters.registries.marker import is_marker
from mergenode.errors import RejectReason

DEPTH = 3
"""Levels of subdirectories that are looked at: they only show that copying goes on."""

_LINK_HINT = "Put the files themselves into the registry, or link only to files inside it."


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an entry cannot be accepted as it is. ``certain``: no half-made copy ever looks so."""

    reason: RejectReason
    message: str
    hint: str = ""
    certain: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """A regular file: name relative to the entry, where it really lies, and its status."""

    name: str
    path: str
    status: os.stat_result

    @property
    def stamp(self) -> tuple[int, ...]:
        return stamp_of(self.status)


@dataclass(slots=True)
class Walked:
    """What lies in an entry. ``directories`` holds the stamps of the directories, the entry itself first."""

    files: list[Found] = field(default_factory=list)
    directories: list[tuple[int, ...]] = field(default_factory=list)
    problem: Problem | None = None

    def report(self, problem: Problem) -> None:
        """Keep the first problem, and any certain one before one that time may cure."""
        if self.problem is None or (problem.certain and not self.problem.certain):
            self.problem = problem


def stamp_of(status: os.stat_result) -> tuple[int, ...]:
    """Everything that changes when a file does: device, inode, mode, owner, size, modification and change
    time.
    """
    return (
        status.st_dev, status.st_ino, status.st_mode, status.st_uid, status.st_gid,
        status.st_size, status.st_mtime_ns, status.st_ctime_ns,
    )  # fmt: skip


def is_inside(path: str, root: str) -> bool:
    """True when the resolved ``path`` lies below the resolved ``root``."""
    return path.startswith(root.rstrip(os.sep) + os.sep)


def walk_entry(directory: Path, root: str, cap: int) -> Walked:
    """List an entry directory, subdirectories included down to ``DEPTH``, at most about ``cap`` files. Hidden
    names are left out, links are followed only to files below ``root`` (resolved).

    Files that vanish meanwhile are left out too. Raises OSError when the directory itself cannot be listed.
    """
    walked = Walked()
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        walked.directories.append(stamp_of(os.fstat(fd)))
        subdirectories = list(_level(walked, fd, str(directory), root))
    finally:
        os.close(fd)
    for name in subdirectories:
        _descend(walked, directory, name, cap, DEPTH - 1)
        if len(walked.files) > cap:
            break
    if len(walked.files) > cap:
        message = f"{names.printable(str(directory))}: more than {cap} files"
        walked.report(
            Problem(RejectReason.TOO_LARGE, message, "Register the checkpoint alone, not the tree around it.")
        )
    return walked


def _level(walked: Walked, fd: int, directory: str, root: str) -> Iterator[str]:
    """Take in the top level of an entry; yields the names of its subdirectories."""
    with os.scandir(fd) as found:
        for item in sorted(found, key=lambda item: item.name):
            if names.is_hidden(item.name):
                continue
            try:
                status = item.stat(follow_symlinks=False)
                path = str(Path(directory, item.name))
                if stat.S_ISLNK(status.st_mode):
                    path, status = os.path.realpath(path), item.stat()
                    if stat.S_ISDIR(status.st_mode) and not names.is_safetensors(item.name):
                        continue
            except FileNotFoundError:
                _report_link(walked, directory, item.name, root)
                continue
            if path != str(Path(directory, item.name)) and not is_inside(path, root):
                _report_link(walked, directory, item.name, root)
            elif stat.S_ISREG(status.st_mode):
                walked.files.append(Found(item.name, path, status))
            elif names.defines_content(item.name) or is_marker(item.name):
                message = f"{names.printable(directory)}: {names.printable(item.name)} is not a regular file"
                walked.report(
                    Problem(RejectReason.NOT_REGULAR_FILE, message, "Replace it by the file itself.", certain=True)
                )
            elif stat.S_ISDIR(status.st_mode) and item.name not in names.SYSTEM_DIRECTORIES:
                yield item.name


def _report_link(walked: Walked, directory: str, name: str, root: str) -> None:
    """A link that matters and leads out of the root is refused; a dangling one inside it is a file that is
    not there yet.
    """
    path = str(Path(directory, name))
    if not (names.defines_content(name) or is_marker(name)) or not Path(path).is_symlink():
        return
    if not is_inside(os.path.realpath(path), root):
        message = f"{names.printable(directory)}: {names.printable(name)} is a link that leads out of the registry"
        walked.report(Problem(RejectReason.PATH_UNSAFE, message, _LINK_HINT, certain=True))


def _descend(walked: Walked, directory: Path, prefix: str, cap: int, depth: int) -> None:
    """Take in what lies below a subdirectory: it shows that copying goes on, but is never read, so errors are
    ignored.
    """
    try:
        fd = os.open(directory / prefix, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        walked.directories.append(stamp_of(os.fstat(fd)))
        below = []
        with os.scandir(fd) as found:
            for item in found:
                status = _status(item)
                if status is None or names.is_hidden(item.name) or len(walked.files) > cap:
                    continue
                name = f"{prefix}/{item.name}"
                if stat.S_ISREG(status.st_mode):
                    walked.files.append(Found(name, str(directory / name), status))
                elif stat.S_ISDIR(status.st_mode):
                    below.append(name)
    except OSError:
        return
    finally:
        os.close(fd)
    for name in below:
        if depth > 0 and len(walked.files) <= cap:
            _descend(walked, directory, name, cap, depth - 1)


def _status(item: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return item.stat(follow_symlinks=False)
    except OSError:
        return None
