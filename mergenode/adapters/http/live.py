"""What the node is doing right now, collected from what it tells its observers."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mergenode.adapters.observers.activities import ActivityBook, Running
from mergenode.ledger.records import Duplicate, Fact, Folded, Published, Rejected
from mergenode.ports.activity import Activity, ActivityKind
from mergenode.ports.clock import Clock
from mergenode.ports.observer import Progress
from mergenode.types import Listing, Unsettled

MAX_UNSETTLED_SHOWN = 100
"""Per registry; a directory full of half-copied files must not fill the memory of the node."""


_ENDED_BY_FACTS = frozenset({ActivityKind.FOLD, ActivityKind.PROTECT, ActivityKind.EXPORT})
"""Whoever forgets to say that one of these is over is believed to have ended it when its fact comes."""


@dataclass(frozen=True, slots=True)
class RegistryState:
    """What one registry said last. ``answered``: monotonic seconds, None when it never did."""

    name: str
    answered: float | None = None
    pending: int = 0
    unsettled: tuple[Unsettled, ...] = ()
    unsettled_total: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Retry:
    """The newest transient failure that nothing has succeeded since."""

    subject: str
    reason: str
    message: str
    delay_seconds: float
    at: float
    hint: str = ""


@dataclass(frozen=True, slots=True)
class DiskUse:
    statistics_bytes: int
    published_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Live:
    """One consistent picture. ``now`` and ``heartbeat`` are monotonic seconds of the same clock.

    ``time``: when it was taken, as facts tell times. ``running``: what the loop is busy with, the innermost where one
    piece of work is part of another. ``activities``: all long work that is under way, in the order of its start.
    """

    now: float
    heartbeat: float
    loaded: bool
    draining: bool
    registries: tuple[RegistryState, ...]
    running: Running | None
    retry: Retry | None
    disk: DiskUse | None
    activities: tuple[Activity, ...] = ()
    time: str = ""

    @property
    def loop_age(self) -> float:
        """Seconds since the loop last showed that it is alive."""
        return max(0.0, self.now - self.heartbeat)


class LiveStatus:
    """An observer that remembers the latest of everything, in bounded memory. Thread-safe.

    Besides the port it has two switches for the composition root: ``state_loaded`` when the committed state
    was read and checked, ``drain`` when the node begins to stop. Neither goes back.
    """

    def __init__(self, clock: Clock, registries: Sequence[str]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._draining = False
        self.book = ActivityBook(clock)
        now = clock.monotonic()
        # A node that is starting counts as alive: its first heartbeat is its birth.
        states = tuple(RegistryState(name) for name in registries)
        self._live = Live(now, now, False, False, states, None, None, None)

    def snapshot(self) -> Live:
        """The picture as of now; never waits for the loop."""
        now = self._clock.monotonic()
        found = self.book.picture(now)
        with self._lock:
            return replace(
                self._live, now=now, draining=self._draining, time=self._clock.now(), running=found.innermost,
                activities=found.activities,
            )  # fmt: skip

    def activities(self) -> tuple[Activity, ...]:
        """All long work under way, as of now."""
        return self.book.picture(self._clock.monotonic()).activities

    def state_loaded(self) -> None:
        with self._lock:
            self._live = replace(self._live, loaded=True)

    def drain(self) -> None:
        """Takes no lock: a signal handler may call it while this very thread holds the lock."""
        self._draining = True

    def fact(self, fact: Fact) -> None:
        if isinstance(fact, Folded | Rejected | Duplicate | Published):
            self.book.forget(_ENDED_BY_FACTS)
            with self._lock:
                self._live = replace(self._live, retry=None)

    def progress(self, progress: Progress) -> None:
        self.book.progress(progress)

    def listed(self, registry: str, listing: Listing, pending: int) -> None:
        state = RegistryState(
            name=registry,
            answered=self._clock.monotonic(),
            pending=pending,
            unsettled=listing.unsettled[:MAX_UNSETTLED_SHOWN],
            unsettled_total=len(listing.unsettled),
        )
        with self._lock:
            self._store(state)
            if self._live.retry is not None and self._live.retry.subject == registry:
                self._live = replace(self._live, retry=None)

    def listing_failed(self, registry: str, message: str) -> None:
        with self._lock:
            known = (state for state in self._live.registries if state.name == registry)
            self._store(replace(next(known, RegistryState(registry)), error=message))

    def retrying(self, subject: str, reason: str, message: str, delay_seconds: float, hint: str = "") -> None:
        retry = Retry(subject, reason, message, delay_seconds, self._clock.monotonic(), hint)
        self.book.forget(_ENDED_BY_FACTS)
        with self._lock:
            self._live = replace(self._live, retry=retry)

    def heartbeat(self) -> None:
        now = self._clock.monotonic()
        with self._lock:
            self._live = replace(self._live, heartbeat=now)

    def sizes(self, *, statistics_bytes: int, published_bytes: int, disk_free_bytes: int) -> None:
        with self._lock:
            self._live = replace(self._live, disk=DiskUse(statistics_bytes, published_bytes, disk_free_bytes))

    def message(self, level: str, text: str, **fields: object) -> None:
        """Words are for the log."""

    def _store(self, state: RegistryState) -> None:
        others = [known for known in self._live.registries if known.name != state.name]
        order = {known.name: place for place, known in enumerate(self._live.registries)}
        states = sorted([*others, state], key=lambda known: order.get(known.name, len(order)))
        self._live = replace(self._live, registries=tuple(states))
