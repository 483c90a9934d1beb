"""How much each pusher has sent within 24 hours, on disk, so that a restart forgives nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from mergenode.adapters.durable import disk_errors, replace_file, sync_directory

DAY_SECONDS = 86_400.0
SMALLEST_CHARGE = 16 << 20
"""What an upload counts at least: a quota also bounds how many directories a pusher can make."""

_MOST_CHARGES = 256


@dataclass(frozen=True, slots=True)
class _Charge:
    time: float
    nbytes: int
    upload: str


class Allowances:
    """Bytes by pusher. Not thread-safe: the store of uploads calls it under its lock."""

    def __init__(self, directory: Path, unix: Callable[[], float]) -> None:
        """``directory`` is created; ``unix``: seconds since 1970."""
        self._directory = directory
        self._unix = unix
        with disk_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)

    def spent(self, owner: str) -> int:
        """Bytes within the last 24 hours. A clock that was set back forgives nothing for longer than a day."""
        return sum(charge.nbytes for charge in self._charges(owner))

    def seconds_until(self, owner: str, nbytes: int) -> float | None:
        """Until so many of the bytes spent are older than a day; None when they are never."""
        for charge in self._charges(owner):
            nbytes -= charge.nbytes
            if nbytes <= 0:
                return max(0.0, charge.time + DAY_SECONDS - self._unix())
        return None

    def charge(self, owner: str, upload: str, nbytes: int) -> None:
        """Count an upload that ended.

        Durability: on disk on return. Idempotence: the same ``upload`` counts once.
        """
        charges = [known for known in self._charges(owner) if known.upload != upload]
        charges.append(_Charge(self._unix(), max(nbytes, SMALLEST_CHARGE), upload))
        while len(charges) > _MOST_CHARGES:
            first, second = charges[:2]
            charges[:2] = [_Charge(second.time, first.nbytes + second.nbytes, second.upload)]
        document = {"owner": owner, "charges": [[charge.time, charge.nbytes, charge.upload] for charge in charges]}
        with disk_errors(self._directory):
            replace_file(self._path(owner), json.dumps(document).encode())

    def tidy(self) -> None:
        """Remove the accounts of pushers that sent nothing for a day."""
        with disk_errors(self._directory):
            for name in os.listdir(self._directory):
                path = self._directory / name
                if self._unix() - path.stat().st_mtime > DAY_SECONDS:
                    path.unlink()
                    sync_directory(self._directory)

    def _path(self, owner: str) -> Path:
        return self._directory / f"{blake3(owner.encode()).hexdigest(16)}.json"

    def _charges(self, owner: str) -> list[_Charge]:
        """Those that still count, oldest first."""
        now, found = self._unix(), []
        with disk_errors(self._directory), suppress(FileNotFoundError):
            for time, nbytes, upload in json.loads(self._path(owner).read_bytes())["charges"]:
                found.append(_Charge(min(float(time), now), int(nbytes), str(upload)))
        return [charge for charge in found if now - charge.time < DAY_SECONDS]
