"""Which kind of file system a path lies on, and whether it tells about changes."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

_LOCAL = {
    0xEF53: "ext", 0x58465342: "xfs", 0x9123683E: "btrfs", 0x01021994: "tmpfs", 0x858458F6: "ramfs",
    0x794C7630: "overlay", 0x2FC12FC1: "zfs", 0xF2F52010: "f2fs", 0xCA451A4E: "bcachefs", 0x3153464A: "jfs",
    0x52654973: "reiserfs", 0x3434: "nilfs", 0x4D44: "vfat", 0x2011BAB0: "exfat", 0x482B: "hfsplus",
}  # fmt: skip
"""File systems whose every change passes through this kernel (`man 2 statfs`, linux/magic.h)."""

_REMOTE = {
    0x6969: "nfs", 0xFF534D42: "cifs", 0xFE534D42: "smb2", 0x517B: "smb", 0x65735546: "fuse",
    0x01021997: "9p",
    0x0BD00BD0: "lustre", 0x00C36400: "ceph", 0x5346414F: "afs", 0x47504653: "gpfs", 0x7461636F: "ocfs2",
    0x01161970: "gfs2", 0x786F4256: "vboxsf", 0x61756673: "aufs", 0x19830326: "beegfs",
}  # fmt: skip
"""File systems that others change behind this kernel's back: inotify stays silent there."""

_STATFS_BYTES = 512
_MAGIC_MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class FileSystem:
    """``notifies``: inotify sees every change, and the time stamps come from this machine's own clock."""

    name: str
    notifies: bool


def file_system(path: Path) -> FileSystem:
    """The file system of a path. Unknown ones, and paths that cannot be asked about, count as remote.

    A wrong "remote" costs some polling, a wrong "local" would miss checkpoints: hence the default.
    """
    magic = _statfs_magic(path)
    if magic in _LOCAL:
        return FileSystem(_LOCAL[magic], notifies=True)
    return FileSystem(_REMOTE.get(magic, "unknown"), notifies=False)


def notifies(path: Path) -> bool:
    """True where inotify can be relied on to shorten the wait for changes below ``path``."""
    return file_system(path).notifies


def _statfs_magic(path: Path) -> int:
    """``f_type`` of statfs(2), the first word of its structure; -1 when it cannot be had."""
    statfs = _statfs()
    if statfs is None:
        return -1
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    if statfs(os.fsencode(path), buffer) != 0:
        return -1
    return ctypes.c_long.from_buffer(buffer).value & _MAGIC_MASK


@cache
def _statfs() -> Callable[..., int] | None:
    try:
        function = ctypes.CDLL(None, use_errno=True).statfs
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
    function.restype = ctypes.c_int
    return cast("Callable[..., int]", function)
