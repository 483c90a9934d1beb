"""Names that stand for several neighbours, such as headless Services."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

DNS = "dns:"
RESOLVE_SECONDS = 30.0
PATIENCE_SECONDS = 10.0
MOST_ADDRESSES = 64

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Host and port to addresses as host:port. Raises OSError."""


async def resolve(host: str, port: int) -> list[str]:
    """All addresses of a name, sorted. Raises OSError: there is no such name, or no answer in time."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE_SECONDS):  # its TimeoutError is an OSError
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    hosts = sorted({str(address[4][0]) for address in found})
    return [f"[{each}]:{port}" if ":" in each else f"{each}:{port}" for each in hosts][:MOST_ADDRESSES]


class ResolvedName:
    """One entry ``dns:name:port``. ``addresses`` are those of the last answer that there was."""

    def __init__(self, entry: str, resolve: Resolve, report: Callable[[str, str], None]) -> None:
        host, _, port = entry.removeprefix(DNS).rpartition(":")
        self._host, self._port = host.removeprefix("[").removesuffix("]"), int(port)
        self._entry, self._resolve, self._report = entry, resolve, report
        self._failing = False
        self.addresses: list[str] = []

    async def run(self, changed: Callable[[], None], seconds: float = RESOLVE_SECONDS) -> None:
        """Ask until cancelled. A name server that is away changes nothing."""
        while True:
            try:
                found = await self._resolve(self._host, self._port)
            except OSError as error:
                if not self._failing:
                    self._report("warning", f"{self._entry}: {error or 'no answer in time'}; what was known stays")
                self._failing = True
            else:
                self._failing = False
                if found != self.addresses:
                    self.addresses = found[:MOST_ADDRESSES]
                    changed()
            await asyncio.sleep(seconds)
