"""A TCP relay that breaks lines: slow, far, cut, half open, with flipped bits, frozen. It counts what it did.

    with Relay(("127.0.0.1", port)) as relay:
        relay.set(Faults(cut_after=[1 << 20]))      # the first connection ends after 1 MiB, later ones do not
        ...
        assert relay.counts["cut"] == 1

Offsets and limits count the bytes from the target to the caller, for every connection by itself. It splits the TCP
connection, so it shows pacing and round trips, not congestion control.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

_PIECE = 64 << 10
_SLACK = 256 << 10
"""Bytes under way beyond what latency and rate account for."""
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Faults:
    """What a line does. Sequences have one entry per connection since they were set; ``None``: nothing happens.

    ``latency``: seconds in each direction. ``rate``: bytes a second down. ``cut_after``: bytes after which the
    connection ends (reset). ``swallow_after``: bytes after which it looks open and nothing arrives, in both directions.
    ``flips``: offsets at which one bit is flipped. ``refuse``: new connections end at once.
    """

    latency: float = 0.0
    rate: float | None = None
    cut_after: Sequence[int | None] = ()
    swallow_after: Sequence[int | None] = ()
    flips: Sequence[Sequence[int]] = ()
    refuse: bool = False


class Relay:
    """Listens on loopback. ``counts``: connections, refused, cut, swallowed, flipped, frozen, bytes ``down``, ``up``.

    All faults may be changed while connections are open; sequences start over for later connections then.
    """

    def __init__(self, target: tuple[str, int], faults: Faults = Faults()) -> None:
        self.counts: Counter[str] = Counter()
        self.faults = faults
        self.flow, self.closed = threading.Event(), threading.Event()
        self.flow.set()
        self._target, self._number = target, 0
        self._lock = threading.Lock()
        self._open: set[_Connection] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all connections and stop listening. Returns when no thread is left."""
        self.closed.set()
        self.flow.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(30)
        self._listener.close()
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            connection.end()
            connection.join()

    def set(self, faults: Faults) -> None:
        """From now on."""
        with self._lock:
            self.faults, self._number = faults, 0

    def redirect(self, target: tuple[str, int]) -> None:
        """Later connections go there."""
        with self._lock:
            self._target = target

    def freeze(self) -> None:
        """Nothing moves any more; connections stay open."""
        self.count("frozen")
        self.flow.clear()

    def thaw(self) -> None:
        """It moves again."""
        self.flow.set()

    def cut(self) -> None:
        """End all connections that are open."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            self.count("cut")
            connection.end()

    def count(self, what: str, number: int = 1) -> None:
        """From any thread."""
        with self._lock:
            self.counts[what] += number

    def forget(self, connection: _Connection) -> None:
        """It is over."""
        with self._lock:
            self._open.discard(connection)

    def _accept(self) -> None:
        while not self.closed.is_set():
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                faults, number, target = self.faults, self._number, self._target
                self._number += 0 if faults.refuse else 1
                self.counts["refused" if faults.refuse else "connections"] += 1
            if faults.refuse or self.closed.is_set():
                _reset(caller)
                continue
            try:
                server = socket.create_connection(target, timeout=10)
            except OSError:
                _reset(caller)
                continue
            server.settimeout(None)
            connection = _Connection(self, caller, server, _Line(self, faults, number))
            with self._lock:
                self._open.add(connection)
            connection.start()


class _Connection:
    """Two ways, each with a thread that reads and one that writes when it is time."""

    def __init__(self, relay: Relay, caller: socket.socket, server: socket.socket, line: _Line) -> None:
        self._relay, self._caller, self._server, self._line = relay, caller, server, line
        self._ended = threading.Event()
        up, down = _UnderWay(), _UnderWay()
        pairs = ((self._read, (caller, up, False)), (self._write, (server, up, False)))
        pairs += ((self._read, (server, down, True)), (self._write, (caller, down, True)))
        self._ways = (up, down)
        self._threads = [threading.Thread(target=target, args=args, daemon=True) for target, args in pairs]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Reset both sides. Threads notice."""
        if not self._ended.is_set():
            self._ended.set()
            for way in self._ways:
                way.end()
            for end in (self._caller, self._server):
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    end.shutdown(socket.SHUT_RDWR)
            threading.Thread(target=self._close, daemon=True).start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(30)
        self._close()

    def _close(self) -> None:
        """When nobody reads or writes any more: a descriptor that is closed under a reader may be another's by then."""
        for thread in self._threads:
            thread.join(30)
        self._caller.close()
        self._server.close()
        self._relay.forget(self)

    def _read(self, source: socket.socket, way: _UnderWay, down: bool) -> None:
        free_at = 0.0
        try:
            while data := source.recv(_PIECE):
                self._relay.flow.wait()
                faults, now = self._relay.faults, monotonic()
                if faults.rate is not None and down:
                    free_at = max(free_at, now) + len(data) / faults.rate
                kept = self._line.down(data) if down else self._line.up(data)
                most = _SLACK + int(2 * faults.latency * (faults.rate or 1e9))
                if not way.put(max(free_at, now) + faults.latency, kept, most) or self._line.over:
                    break
        except OSError:
            pass
        way.put(0.0, None, 1 << 60)

    def _write(self, target: socket.socket, way: _UnderWay, down: bool) -> None:
        try:
            while (entry := way.get()) is not None:
                due, data = entry
                if (wait := due - monotonic()) > 0 and self._ended.wait(wait):
                    break
                self._relay.flow.wait()
                target.sendall(data)
                way.sent(len(data))
                self._relay.count("down" if down else "up", len(data))
        except OSError:
            pass
        self.end()


class _UnderWay:
    """What was read and not written yet."""

    def __init__(self) -> None:
        self._entries: deque[tuple[float, bytes] | None] = deque()
        self._changed = threading.Condition()
        self._bytes, self._ended = 0, False

    def put(self, due: float, data: bytes | None, most: int) -> bool:
        """None: there is no more. Waits while ``most`` bytes are under way; False: nobody takes it any more."""
        with self._changed:
            while self._bytes and data and self._bytes + len(data) > most and not self._ended:
                self._changed.wait()
            if data is None:
                self._entries.append(None)
            elif data:
                self._bytes += len(data)
                self._entries.append((due, data))
            self._changed.notify_all()
            return not self._ended

    def get(self) -> tuple[float, bytes] | None:
        with self._changed:
            while not self._entries and not self._ended:
                self._changed.wait()
            return self._entries.popleft() if self._entries and not self._ended else None

    def sent(self, nbytes: int) -> None:
        with self._changed:
            self._bytes -= nbytes
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class _Line:
    """The faults of one connection."""

    def __init__(self, relay: Relay, faults: Faults, number: int) -> None:
        self._relay = relay
        self._cut = _entry(faults.cut_after, number)
        self._swallow = _entry(faults.swallow_after, number)
        self._flips = sorted(_entry(faults.flips, number) or ())
        self._passed = 0
        self._swallowing = self.over = False

    def down(self, data: bytes) -> bytes:
        first, self._passed = self._passed, self._passed + len(data)
        if self._cut is not None and self._passed > self._cut:
            data, self.over = data[: max(0, self._cut - first)], True
            self._relay.count("cut")
        if self._swallow is not None and self._passed > self._swallow:
            self._relay.count("swallowed", 0 if self._swallowing else 1)
            self._swallowing = True
            return b""
        if self._flips and self._flips[0] < first + len(data):
            changed = bytearray(data)
            while self._flips and self._flips[0] < first + len(data):
                changed[self._flips.pop(0) - first] ^= 0x10
                self._relay.count("flipped")
            return bytes(changed)
        return data

    def up(self, data: bytes) -> bytes:
        return b"" if self._swallowing else data


def _entry(sequence: Sequence[T], number: int) -> T | None:
    return sequence[number] if number < len(sequence) else None


def _reset(end: socket.socket) -> None:
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    end.close()
