"""The top level of a registry directory: which names there are, and which are still in progress."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mergenode.adapters.registries import names
from mergenode.errors import TransientError, TransientReason

Identity = tuple[int, int]
"""Device and inode."""

_CHILDREN = 64


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Under an in-progress name: the size of a file, some children (name, inode) of a directory."""

    size: int
    children: frozenset[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class TopLevel:
    """Names in progress by identity, the other names with their own (not followed) status, sorted."""

    identity: Identity
    entries: Mapping[str, os.stat_result]
    unfinished: Mapping[Identity, Unfinished] = field(default_factory=dict)


def read_top_level(root: Path, max_entries: int) -> TopLevel:
    """List the root. Names that vanish meanwhile are left out.

    Raises:
        TransientError: REGISTRY_UNREACHABLE when the root is missing, unreadable or holds too many names.
    """
    entries: dict[str, os.stat_result] = {}
    unfinished: dict[Identity, Unfinished] = {}
    try:
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            own = os.fstat(fd)
            with os.scandir(fd) as found:
                for number, item in enumerate(found):
                    if number >= max_entries:
                        raise _unreachable(root, f"more than {max_entries} names", "Keep checkpoints of one base only.")
                    _take(item, root, entries, unfinished)
        finally:
            os.close(fd)
    except OSError as error:
        hint = "Check that the directory exists, is mounted and readable; listing goes on as soon as it is."
        raise _unreachable(root, error.strerror or str(error), hint) from error
    return TopLevel((own.st_dev, own.st_ino), dict(sorted(entries.items())), unfinished)


def continues(before: Unfinished, status: os.stat_result, path: Path) -> bool:
    """True when an entry is what was in progress before, not a new one that got the same inode."""
    if not stat.S_ISDIR(status.st_mode):
        return status.st_size >= before.size
    return not before.children or bool(before.children & _children(path))


def _take(
    item: os.DirEntry[str],
    root: Path,
    entries: dict[str, os.stat_result],
    unfinished: dict[Identity, Unfinished],
) -> None:
    try:
        status = item.stat(follow_symlinks=False)
    except FileNotFoundError:
        return
    if not names.is_in_progress(item.name):
        if item.name not in names.SYSTEM_DIRECTORIES:
            entries[item.name] = status
        return
    is_directory = stat.S_ISDIR(status.st_mode)
    if is_directory or stat.S_ISREG(status.st_mode):
        children = _children(root / item.name) if is_directory else frozenset[tuple[str, int]]()
        unfinished[(status.st_dev, status.st_ino)] = Unfinished(status.st_size, children)


def _children(directory: Path) -> frozenset[tuple[str, int]]:
    """Names and inodes of the first children by name; empty when it cannot be listed."""
    try:
        with os.scandir(directory) as found:
            children = sorted((item.name, item.inode()) for item in found)
    except OSError:
        return frozenset()
    return frozenset(children[:_CHILDREN])


def _unreachable(root: Path, why: str, hint: str) -> TransientError:
    return TransientError(TransientReason.REGISTRY_UNREACHABLE, f"{names.printable(str(root))}: {why}", hint=hint)
