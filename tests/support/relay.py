"""A TCP relay that breaks lines: slow, far, cut, half open, with flipped bits, frozen. It counts what it did.

    with Relay(("127.0.0.1", port)) as relay:
        relay.set(Faults(cut_after=[1 << 20]))      # the first connection ends after 1 MiB, later ones do not
        ...
        assert relay.counts["cut"] == 1

Offsets and limits count the bytes from the target to the caller, for every connection by itself. It splits the TCP
connection, so it shows pacing and round trips, not congestion control.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

_PIECE = 64 << 10
_SLACK = 256 << 10
"""Bytes under way beyond what latency and rate account for."""


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
        self._target, self._faults, self._number = target, faults, 0
        self._loop = asyncio.new_event_loop()
        self._flow = asyncio.Event()
        self._flow.set()
        self._open: set[asyncio.StreamWriter] = set()
        self._accepted_writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = threading.Event()
        self.port = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._started.wait(30)

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
        """End all connections and stop listening."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(30)

    def set(self, faults: Faults) -> None:
        """From now on."""

        def change() -> None:
            self._faults, self._number = faults, 0

        self._in_loop(change)

    def redirect(self, target: tuple[str, int]) -> None:
        """Later connections go there."""
        self._in_loop(lambda: setattr(self, "_target", target))

    def freeze(self) -> None:
        """Nothing moves any more; connections stay open."""
        self.counts["frozen"] += 1
        self._in_loop(self._flow.clear)

    def thaw(self) -> None:
        """It moves again."""
        self._in_loop(self._flow.set)

    def cut(self) -> None:
        """End all connections that are open."""

        def abort() -> None:
            for writer in list(self._open):
                writer.transport.abort()
                self.counts["cut"] += 1

        self._in_loop(abort)

    def _in_loop(self, action: object) -> None:
        done = threading.Event()

        def run() -> None:
            action()  # type: ignore[operator]
            done.set()

        self._loop.call_soon_threadsafe(run)
        assert done.wait(30)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._accepted, "127.0.0.1", 0, limit=_PIECE))
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        """Nothing of any connection is left, not even of one that is being accepted."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for writer in self._accepted_writers:
            writer.transport.abort()
        for _ in range(3):
            await asyncio.sleep(0)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._accepted_writers.add(writer)
        task = asyncio.ensure_future(self._served(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._relayed(reader, writer)
        finally:
            writer.transport.abort()
            self._accepted_writers.discard(writer)

    async def _relayed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._faults.refuse:
            self.counts["refused"] += 1
            return
        self.counts["connections"] += 1
        line = _Line(self, self._faults, self._number)
        self._number += 1
        try:
            there, back = await asyncio.open_connection(*self._target, limit=_PIECE)
        except OSError:
            return
        self._open.add(writer)
        ways = [
            asyncio.ensure_future(self._carry(reader, back, line, down=False)),
            asyncio.ensure_future(self._carry(there, writer, line, down=True)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._open.discard(writer)
            back.transport.abort()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: _Line, *, down: bool
    ) -> None:
        """One direction: read, hold back until it is due, write."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        room = _Room()
        delivering = asyncio.ensure_future(self._deliver(under_way, writer, room, down=down))
        free_at = 0.0
        try:
            while data := await reader.read(_PIECE):
                await self._flow.wait()
                faults, now = self._faults, self._loop.time()
                if faults.rate is not None and down:
                    free_at = max(free_at, now) + len(data) / faults.rate
                kept = line.down(data) if down else line.up(data)
                if kept:
                    await room.take(len(kept), _SLACK + int(2 * faults.latency * (faults.rate or 1e9)))
                    under_way.put_nowait((max(free_at, now) + faults.latency, kept))
                if line.over:
                    break
            under_way.put_nowait((0.0, b""))
            await delivering
        except (ConnectionError, TimeoutError):
            pass
        finally:
            delivering.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await delivering

    async def _deliver(
        self, under_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, room: _Room, *, down: bool
    ) -> None:
        while True:
            due, data = await under_way.get()
            if not data:
                return
            if (wait := due - self._loop.time()) > 0:
                await asyncio.sleep(wait)
            await self._flow.wait()
            writer.write(data)
            await writer.drain()
            self.counts["down" if down else "up"] += len(data)
            room.give(len(data))


class _Room:
    """Bytes that may be under way."""

    def __init__(self) -> None:
        self._taken = 0
        self._freed = asyncio.Event()

    async def take(self, nbytes: int, most: int) -> None:
        while self._taken and self._taken + nbytes > most:
            self._freed.clear()
            await self._freed.wait()
        self._taken += nbytes

    def give(self, nbytes: int) -> None:
        self._taken -= nbytes
        self._freed.set()


class _Line:
    """The faults of one connection."""

    def __init__(self, relay: Relay, faults: Faults, number: int) -> None:
        self._counts = relay.counts
        self._cut = _entry(faults.cut_after, number)
        self._swallow = _entry(faults.swallow_after, number)
        self._flips = sorted(_entry(faults.flips, number) or ())
        self._passed = 0
        self._swallowing = self.over = False

    def down(self, data: bytes) -> bytes:
        first, self._passed = self._passed, self._passed + len(data)
        if self._cut is not None and self._passed > self._cut:
            data, self.over = data[: max(0, self._cut - first)], True
            self._counts["cut"] += 1
        if self._swallow is not None and self._passed > self._swallow:
            self._counts["swallowed"] += 0 if self._swallowing else 1
            self._swallowing = True
            return b""
        if self._flips and self._flips[0] < first + len(data):
            changed = bytearray(data)
            while self._flips and self._flips[0] < first + len(data):
                changed[self._flips.pop(0) - first] ^= 0x10
                self._counts["flipped"] += 1
            return bytes(changed)
        return data

    def up(self, data: bytes) -> bytes:
        return b"" if self._swallowing else data


def _entry(sequence: Sequence[T], number: int) -> T | None:
    return sequence[number] if number < len(sequence) else None
