"""Whom to ask for weights: who answers, who has to be left alone for a while, who lied."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from mergenode.wire.blocks import Root

LONGEST_RETRY_AFTER = 600.0
"""Seconds; a node that says more is asked again after these."""


@dataclass(frozen=True, slots=True)
class Source:
    """A node that may hold a model. ``name``: for metrics and bans; ``address``: what a channel is opened to."""

    name: str
    address: str
    node_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one waits. Seconds, and bytes a second.

    A transfer fails when nothing that counts came for ``idle_seconds``, when a block takes longer than that and its
    length at ``slowest_block``, and after ``backstop_seconds`` or its bytes at ``slowest``, whichever is longer. After
    a failure a source rests for a random time below ``first_pause`` doubled with each further one, at most
    ``longest_pause`` (full jitter).
    """

    idle_seconds: float = 30.0
    slowest_block: float = 65_536.0
    backstop_seconds: float = 600.0
    slowest: float = 1e6
    first_pause: float = 1.0
    longest_pause: float = 60.0

    def backstop(self, nbytes: int) -> float:
        """The deadline of one call, in seconds from its start."""
        return max(self.backstop_seconds, nbytes / self.slowest)

    def pause(self, failures: int) -> float:
        """The longest rest after so many failures in a row."""
        return float(min(self.longest_pause, self.first_pause * 2.0 ** min(failures - 1, 32)))


class SourceBook:
    """What is remembered of sources, over all transfers of a node. Safe from several threads."""

    def __init__(self, monotonic: Callable[[], float], random: Callable[[], float], patience: Patience) -> None:
        """``random``: a number from 0 to 1."""
        self._monotonic, self._random, self._patience = monotonic, random, patience
        self._lock = threading.Lock()
        self._failures: dict[str, int] = {}
        self._rests_until: dict[str, float] = {}
        self._refused: set[tuple[Root, str]] = set()
        self._strikes: set[tuple[Root, str]] = set()
        self._banned: set[tuple[Root, str]] = set()

    def choose(
        self, root: Root, sources: Sequence[Source], preferred: Collection[bytes] = ()
    ) -> tuple[Source | None, float]:
        """The source to ask now, or None and for how many seconds to wait (infinite: nobody is left)."""
        with self._lock:
            left = [item for item in sources if (root, item.name) not in self._banned | self._refused]
            now = self._monotonic()
            left.sort(key=lambda item: item.node_id is None or item.node_id.bytes not in preferred)
            ready = [item for item in left if self._rests_until.get(item.name, 0.0) <= now]
            if ready:
                return min(ready, key=lambda item: self._failures.get(item.name, 0)), 0.0
            return None, min((self._rests_until[item.name] - now for item in left), default=math.inf)

    def worked(self, source: Source) -> None:
        """It sent what counts."""
        with self._lock:
            self._failures.pop(source.name, None)
            self._rests_until.pop(source.name, None)

    def failed(self, source: Source, retry_after: float | None = None) -> float:
        """It did not; for how many seconds it rests. ``retry_after``: what it asked for."""
        with self._lock:
            failures = self._failures[source.name] = self._failures.get(source.name, 0) + 1
            if retry_after is not None:
                rest = min(retry_after, LONGEST_RETRY_AFTER)
            else:
                rest = self._random() * self._patience.pause(failures)
            self._rests_until[source.name] = self._monotonic() + rest
            return rest

    def refused(self, root: Root, source: Source) -> None:
        """It will not serve this root, whatever is tried, until ``forgive``."""
        with self._lock:
            self._refused.add((root, source.name))

    def forgive(self, root: Root) -> None:
        """Ask once more those who refused; not those who lied."""
        with self._lock:
            self._refused = {item for item in self._refused if item[0] != root}

    def strike(self, root: Root, source: Source) -> bool:
        """It sent what no honest node sends; whether that was the second time and it is not asked any more."""
        with self._lock:
            if (root, source.name) not in self._strikes:
                self._strikes.add((root, source.name))
                return False
        self.ban(root, source)
        return True

    def ban(self, root: Root, source: Source) -> None:
        """It is not asked for this root any more."""
        with self._lock:
            self._banned.add((root, source.name))

    def keep(self, roots: Collection[Root]) -> None:
        """Forget what is remembered of other roots."""
        with self._lock:
            for book in (self._refused, self._strikes, self._banned):
                book.intersection_update({item for item in book if item[0] in roots})

    def open_breakers(self) -> int:
        """Sources that rest."""
        now = self._monotonic()
        with self._lock:
            return sum(until > now for until in self._rests_until.values())
