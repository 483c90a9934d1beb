"""Names that stand for several neighbours, such as headless Services."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

DNS = "dns:"
RESOLVE_SECONDS = 30.0
PATIENCE_SECONDS = 10.0
MOST_ADDRESSES = 64
UNKNOWN_LOOKUPS = 10
"""So many times in a row a name has to be unknown before its addresses are given up: five minutes, while a name server
that starts may know too little for one."""
_UNKNOWN = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))

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
    """One entry ``dns:name:port``. ``addresses`` are those of the last answer that there was.

    ``name``: what certificates at these addresses have to be for.
    """

    def __init__(self, entry: str, resolve: Resolve, report: Callable[[str, str], None]) -> None:
        host, _, port = entry.removeprefix(DNS).rpartition(":")
        self._host, self._port = host.removeprefix("[").removesuffix("]"), int(port)
        self.name = self._host.removesuffix(".")  # the dot says where a look-up begins; it is in no certificate
        self._entry, self._resolve, self._report = entry, resolve, report
        self._failing, self._unknown = False, 0
        self.addresses: list[str] = []

    async def run(self, changed: Callable[[], None], seconds: float = RESOLVE_SECONDS) -> None:
        """Ask until cancelled. A name server that is away changes nothing; one that knows no such name does, later."""
        while True:
            try:
                found = await self._resolve(self._host, self._port)
            except (OSError, UnicodeError) as error:  # the latter: no name at all
                if not self._failing:
                    self._report("warning", f"{self._entry}: {error or 'no answer in time'}; what was known stays")
                self._failing = True
                unknown = isinstance(error, socket.gaierror) and error.errno in _UNKNOWN
                self._unknown = self._unknown + 1 if unknown else 0
                if self._unknown >= UNKNOWN_LOOKUPS:
                    self._take([], changed)
            else:
                self._failing, self._unknown = False, 0
                self._take(found[:MOST_ADDRESSES], changed)
            await asyncio.sleep(seconds)

    def _take(self, found: list[str], changed: Callable[[], None]) -> None:
        if found == self.addresses:
            return
        news = [f"{each} is new" for each in found if each not in self.addresses]
        news += [f"{each} is gone" for each in self.addresses if each not in found]
        if news:
            self._report("info", f"{self._entry}: {', '.join(news)}")
        self.addresses = found
        changed()
