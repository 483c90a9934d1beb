"""File systems that fail as real ones do: full, read-only, or a share whose server is silent. They need root."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_MNT_DETACH = 2


def _mounted(*words: object) -> None:
    done = subprocess.run(["mount", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stderr)


def _detach(place: Path) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    assert library.umount2(str(place).encode(), _MNT_DETACH) == 0, os.strerror(ctypes.get_errno())


@contextmanager
def volume(place: Path, size: int) -> Iterator[None]:
    """A file system of so many bytes."""
    place.mkdir(parents=True, exist_ok=True)
    _mounted("-t", "tmpfs", "-o", f"size={size}", "none", place)
    try:
        yield
    finally:
        _detach(place)


@contextmanager
def read_only(place: Path) -> Iterator[None]:
    """What is there cannot be written any more."""
    _mounted("--bind", place, place)
    try:
        _mounted("-o", "remount,bind,ro", place)
        yield
    finally:
        _detach(place)


@contextmanager
def silent_share(place: Path) -> Iterator[None]:
    """A file system whose server never answers: whoever looks waits. Afterwards it is gone, as after a reboot."""
    library = ctypes.CDLL(None, use_errno=True)
    server = os.open("/dev/fuse", os.O_RDWR)
    try:
        options = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()
        assert library.mount(b"share", str(place).encode(), b"fuse", 0, options) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            _detach(place)
    finally:
        os.close(server)


def fill(directory: Path, leave: int) -> Path:
    """Write a file until no more than ``leave`` bytes are free."""
    filler = directory / "filler"
    free = os.statvfs(directory).f_bavail * os.statvfs(directory).f_frsize
    with suppress(OSError):
        filler.write_bytes(b"\0" * max(0, free - leave))
    return filler
