"""The record inside a lock file: who took the lock, and for the how-manieth time."""

from __future__ import annotations

import fcntl
import json
import os
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

from mergenode.errors import FatalError

_RECORD_BYTES = 1024
"""The file is one block of this size, written whole, so that a record never leaves a tail of a longer one."""

_LONGEST_NAME = 64
"""Characters of host and node name that are kept: escaped as JSON, both fit into the block."""


@dataclass(frozen=True, slots=True)
class LockOwner:
    """Who holds the lock, or, when ``held`` is False, who held it last. ``epoch`` counts the acquisitions.

    ``ended``: it gave the lock back itself. ``killed``: how many owners in a row before this one did not.
    """

    pid: int
    host: str
    epoch: int
    node: str
    held: bool
    ended: bool = False
    killed: int = 0


def write_record(descriptor: int, owner: LockOwner) -> None:
    """Write the record in one call, padded to the block. Durability: synced on return."""
    write_block(descriptor, owner)
    os.fsync(descriptor)


def write_block(descriptor: int, owner: LockOwner) -> None:
    """The same without waiting for the disk."""
    text = json.dumps(
        {
            "epoch": owner.epoch,
            "pid": owner.pid,
            "host": owner.host[:_LONGEST_NAME].encode("ascii", "replace").decode("ascii"),
            "node": owner.node[:_LONGEST_NAME],
            "ended": owner.ended,
            "killed": owner.killed,
        }
    )
    block = text.encode("ascii").ljust(_RECORD_BYTES - 1) + b"\n"
    if os.pwrite(descriptor, block, 0) != len(block):
        raise OSError("the lock record was written in part")


def read_record(descriptor: int, path: Path, *, held: bool) -> LockOwner | None:
    """The record of an open lock file; None when nothing was written yet.

    Raises:
        FatalError: the file holds something else.
    """
    block = os.pread(descriptor, _RECORD_BYTES, 0).strip(b"\0\n ")
    if not block:
        return None
    try:
        stored = json.loads(block)
        return LockOwner(
            pid=int(stored["pid"]),
            host=str(stored["host"]),
            epoch=int(stored["epoch"]),
            node=str(stored["node"]),
            held=held,
            ended=bool(stored.get("ended", True)),  # records of an earlier release do not say
            killed=int(stored.get("killed", 0)),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FatalError(
            f"{path} is not a lock file of mergenode, or is damaged: {error}",
            hint="make sure that no daemon uses this state directory, then remove the file",
        ) from error


def is_locked(descriptor: int) -> bool:
    """True when another process holds the lock on this open file. Asks without taking it."""
    # struct flock: type, whence, start, length, pid in the order and alignment of the platform.
    if sys.platform == "darwin":
        asked = struct.pack("@qqihh", 0, 0, 0, fcntl.F_WRLCK, os.SEEK_SET)
        (kind,) = struct.unpack_from("@h", fcntl.fcntl(descriptor, fcntl.F_GETLK, asked), 20)
    else:
        asked = struct.pack("@hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        (kind,) = struct.unpack_from("@h", fcntl.fcntl(descriptor, fcntl.F_GETLK, asked), 0)
    return bool(kind != fcntl.F_UNLCK)
