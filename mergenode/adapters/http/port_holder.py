"""Who holds a TCP port, as far as this process may see it (Linux)."""

from __future__ import annotations

from pathlib import Path

_LISTEN = "0A"
"""TCP_LISTEN in the state column of /proc/net/tcp (proc(5))."""


def holder_of_port(port: int) -> str:
    """``process 123 (name)``, or the empty string when it cannot be told. Never raises OSError."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not sockets:
        return ""
    try:
        processes = sorted((p for p in Path("/proc").iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
    except OSError:
        return ""
    for process in processes:
        if sockets & _open_files(process):
            return f"process {process.name}{_name(process)}"
    return ""


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for columns in (line.split() for line in lines):
            if columns[3] == _LISTEN and int(columns[1].rpartition(":")[2], 16) == port:
                inodes.add(columns[9])
    return inodes


def _open_files(process: Path) -> set[str]:
    # Processes come and go, and those of other users are closed to us: what cannot be read is passed over.
    found = set()
    try:
        for descriptor in (process / "fd").iterdir():
            found.add(str(descriptor.readlink()))
    except OSError:
        pass
    return found


def _name(process: Path) -> str:
    try:
        return f" ({(process / 'comm').read_text(encoding='utf-8', errors='replace').strip()})"
    except OSError:
        return ""
