"""How much memory the kernel lets this process have: control groups of either version."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_UNLIMITED = 1 << 60
"""Version 1 writes the largest number of pages for "no limit"."""


def memory_limit(root: Path = Path("/")) -> int | None:
    """The smallest limit that holds for this process, in bytes; None: none is set, or none can be read.

    Args:
        root: below it proc and sys are mounted.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    limits = [limit for line in lines for path in _files(root, line) if (limit := _read(path)) is not None]
    return min(limits, default=None)


def _files(root: Path, line: str) -> Iterator[Path]:
    """Where the limits may be written: of the group itself and of those that it lies in."""
    number, _, rest = line.partition(":")
    controllers, colon, group = rest.partition(":")
    if not colon:
        return
    if number == "0" and controllers == "":
        top, name = root / "sys/fs/cgroup", "memory.max"
    elif "memory" in controllers.split(","):
        top, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
    else:
        return
    inner = PurePosixPath(group.lstrip("/"))
    for folder in (inner, *inner.parents):
        # In a container the group itself is mounted at the top, and its outer name leads nowhere.
        if ".." not in folder.parts:
            yield top / folder / name


def _read(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
        limit = int(text)
    except (OSError, ValueError):  # "max" is none
        return None
    return limit if 0 < limit < _UNLIMITED else None
