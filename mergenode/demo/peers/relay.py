"""A wire that can be cut: forwards connections on loopback, and knows which process is at the other end of each.

Every node is reached through one relay port. A partition is a set of pairs of processes whose connections are closed
and not accepted until it is healed. The processes do not take part in it and are not told. Linux: who owns a
connection is read from ``/proc``.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

CHUNK = 1 << 16
LOOKS = 20
"""How often the owner of a connection is looked for: it may not have been in /proc yet."""


class Relay:
    """One listening port that leads to ``target`` (host, port). ``allowed``: asked with the caller's process id, None:
    unknown, for every connection; use ``cut`` after its answers changed. Close it, or use it in ``with``."""

    def __init__(
        self,
        target: tuple[str, int],
        callers: Callable[[], Iterable[int]],
        allowed: Callable[[int | None], bool],
    ) -> None:
        """``callers``: process ids that a connection may belong to."""
        self._target, self._callers, self._allowed = target, callers, allowed
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._lines: dict[int, tuple[int | None, socket.socket, socket.socket]] = {}
        self._closed = False
        self.refused = 0
        self.cut_lines = 0
        threading.Thread(target=self._accept, name=f"relay {self.port}", daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def cut(self) -> int:
        """Close every connection that is not allowed any more; returns how many."""
        with self._lock:
            gone = [line for line in self._lines.values() if not self._allowed(line[0])]
        for _, near, far in gone:
            _shut(near, far)
        self.cut_lines += len(gone)
        return len(gone)

    def close(self) -> None:
        """Close the port and every connection. Idempotent."""
        with self._lock:
            self._closed = True
            lines = list(self._lines.values())
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # a close alone does not wake the thread that accepts
        self._listener.close()
        for _, near, far in lines:
            _shut(near, far)

    def _accept(self) -> None:
        while True:
            try:
                near, (_, port) = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near, port), name="relay line", daemon=True).start()

    def _serve(self, near: socket.socket, port: int) -> None:
        """One connection, from the moment that it was accepted to its end."""
        caller = owner(port, self.port, self._callers)
        if not self._allowed(caller):
            self.refused += 1
            near.close()
            return
        try:
            far = socket.create_connection(self._target, timeout=5.0)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._lines[id(near)] = (caller, near, far)
            welcome = not self._closed and self._allowed(caller)
        if not welcome:  # cut between the question and now
            _shut(near, far)
        back = threading.Thread(target=_pump, args=(far, near), name="relay line back", daemon=True)
        back.start()
        _pump(near, far)
        back.join()
        with self._lock:
            del self._lines[id(near)]
        near.close()
        far.close()


def owner(port: int, remote: int, candidates: Callable[[], Iterable[int]]) -> int | None:
    """The process that has the end ``port`` of a connection from there to ``remote``, both on loopback."""
    for _ in range(LOOKS):
        inode = _inode(port, remote)
        if inode is None:
            return None
        for pid in candidates():
            if _has(pid, f"socket:[{inode}]"):
                return pid
    return None


def _inode(port: int, remote: int) -> str | None:
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                fields = line.split()
                ends = [int(end.rpartition(":")[2], 16) for end in fields[1:3]]
                if ends == [port, remote]:
                    return fields[9]
    return None


def _has(pid: int, name: str) -> bool:
    with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            with suppress(OSError):  # closed meanwhile
                if os.readlink(entry.path) == name:
                    return True
    return False


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Copy until either end closes, then end both directions."""
    with suppress(OSError):
        while data := source.recv(CHUNK):
            sink.sendall(data)
    _shut(source, sink)


def _shut(*ends: socket.socket) -> None:
    """Wakes whoever reads or writes; closing is left to the thread that serves the connection."""
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
