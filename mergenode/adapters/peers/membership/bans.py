"""Nodes that are not listened to: by order, or because what came from them kept being wrong."""

from __future__ import annotations

import json
import math
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from mergenode.adapters.durable import disk_errors, replace_file
from mergenode.errors import TransientError
from mergenode.ports.clock import Clock

OFFENCES = 3
"""That many within ``WINDOW_SECONDS`` and a node is banned."""
WINDOW_SECONDS = 3600.0
FIRST_SECONDS = 900.0
LONGEST_SECONDS = 86_400.0
PARDON_SECONDS = 86_400.0
"""Without another ban for this long after the last one ended, the next one is as short as the first."""
MOST_RECORDS = 1024
REASON_CHARACTERS = 300
_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Ban:
    """``ends``: on the clock that never goes back, infinite: until lifted. ``strikes``: automatic bans in a row."""

    reason: str
    ends: float
    strikes: int


class Bans:
    """What is banned, in one small file. Thread-safe.

    On disk ends are wall time; while the node runs they are not, so a clock that is set neither lifts nor prolongs.
    """

    def __init__(
        self,
        file: Path,
        clock: Clock,
        report: Callable[[str, str], None] = lambda level, text: None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """Read the file; one that is damaged is reported and counts as empty. ``report``: level and words."""
        self._file = file
        self._clock = clock
        self._report, self._changed = report, changed
        self._lock = threading.Lock()
        self._offences: dict[UUID, deque[float]] = {}
        self._bans: Mapping[UUID, Ban] = self._read()

    def ban(self, node_id: UUID, seconds: float | None, reason: str) -> None:
        """By order: for ``seconds``, or until lifted. In force at once, also when it cannot be written.

        Durability: synced on return. Raises TransientError when it is lost with the process.
        """
        with self._lock:
            before = self._bans.get(node_id)
            ends = math.inf if seconds is None else self._clock.monotonic() + max(0.0, seconds)
            self._set(node_id, Ban(reason[:REASON_CHARACTERS], ends, before.strikes if before else 0))
            self._write()
        self._report("warning", f"{node_id} is banned by order: {reason}")
        self._changed()

    def lift(self, node_id: UUID) -> bool:
        """Listen again, all offences forgotten. False: it was not banned. Raises TransientError as ``ban`` does."""
        with self._lock:
            was = node_id in self._banned()
            self._offences.pop(node_id, None)
            self._bans = {other: ban for other, ban in self._bans.items() if other != node_id}
            self._write()
        self._changed()
        return was

    def offend(self, node_id: UUID, what: str) -> bool:
        """What came from this node was wrong, and only it can have made it so. True: that bans it now.

        Durability: a ban is synced on return; where that fails it holds until the process ends, and is reported.
        """
        with self._lock:
            now = self._clock.monotonic()
            if node_id in self._banned():
                return False
            times = self._offences.setdefault(node_id, deque(maxlen=OFFENCES))
            times.append(now)
            while len(self._offences) > MOST_RECORDS:
                del self._offences[next(iter(self._offences))]
            if len(times) < OFFENCES or now - times[0] > WINDOW_SECONDS:
                return False
            del self._offences[node_id]
            before = self._bans.get(node_id)
            strikes = before.strikes if before and now - before.ends < PARDON_SECONDS else 0
            seconds = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(strikes, 16))
            self._set(node_id, Ban(what[:REASON_CHARACTERS], now + seconds, strikes + 1))
            try:
                self._write()
            except TransientError as error:
                self._report("error", f"the ban of {node_id} does not outlive this process: {error.message}")
        self._report("warning", f"{node_id} is banned for {seconds / 60:.0f} minutes: {what}")
        self._changed()
        return True

    def banned(self) -> Mapping[UUID, Ban]:
        """The bans in force."""
        with self._lock:
            return self._banned()

    def unix(self, ban: Ban) -> float | None:
        """When it ends, in seconds since 1970; None: when lifted."""
        return None if math.isinf(ban.ends) else self._clock.unix() + ban.ends - self._clock.monotonic()

    def _banned(self) -> dict[UUID, Ban]:
        now = self._clock.monotonic()
        return {node_id: ban for node_id, ban in self._bans.items() if ban.ends > now}

    def _set(self, node_id: UUID, ban: Ban) -> None:
        now = self._clock.monotonic()
        kept = {who: each for who, each in self._bans.items() if now - each.ends < PARDON_SECONDS and who != node_id}
        while len(kept) >= MOST_RECORDS:
            del kept[min(kept, key=lambda who: kept[who].ends)]
        self._bans = {**kept, node_id: ban}

    def _write(self) -> None:
        entries = [
            {"node": str(node_id), "until": self.unix(ban), "reason": ban.reason, "strikes": ban.strikes}
            for node_id, ban in self._bans.items()
        ]
        text = json.dumps({"schema": _SCHEMA, "bans": entries}, indent=1)
        with disk_errors(self._file):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._file, text.encode())

    def _read(self) -> dict[UUID, Ban]:
        try:
            document = json.loads(self._file.read_text("utf-8"))
            read = (self._entry(entry) for entry in document["bans"][:MOST_RECORDS])
            return dict(read)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._report("error", f"{self._file}: the bans cannot be read ({error}); nobody is banned")
            return {}

    def _entry(self, entry: Mapping[str, object]) -> tuple[UUID, Ban]:
        until, now = entry["until"], self._clock.monotonic()
        ends = math.inf if until is None else now + float(str(until)) - self._clock.unix()
        strikes = max(0, int(str(entry["strikes"])))
        return UUID(str(entry["node"])), Ban(str(entry["reason"])[:REASON_CHARACTERS], ends, strikes)
