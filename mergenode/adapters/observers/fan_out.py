"""One observer that is many: a broken one leaves the line, the fold goes on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from mergenode.ledger.records import Fact
from mergenode.ports.observer import Observer, Progress
from mergenode.types import Listing

_LOGGER = logging.getLogger("mergenode.observers")


class FanOut:
    """Tells every observer everything, in the given order.

    The first exception of an observer is logged with its traceback and takes that observer out for the rest
    of the process: what only watches must never stop a fold, and must not fill the log either. Thread-safe as
    far as the observers are.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)
        self._lock = threading.Lock()

    def fact(self, fact: Fact) -> None:
        self._tell(lambda observer: observer.fact(fact))

    def progress(self, progress: Progress) -> None:
        self._tell(lambda observer: observer.progress(progress))

    def listed(self, registry: str, listing: Listing, pending: int) -> None:
        self._tell(lambda observer: observer.listed(registry, listing, pending))

    def listing_failed(self, registry: str, message: str) -> None:
        self._tell(lambda observer: observer.listing_failed(registry, message))

    def retrying(self, subject: str, reason: str, message: str, delay_seconds: float, hint: str = "") -> None:
        self._tell(lambda observer: observer.retrying(subject, reason, message, delay_seconds, hint))

    def heartbeat(self) -> None:
        self._tell(lambda observer: observer.heartbeat())

    def sizes(self, *, statistics_bytes: int, published_bytes: int, disk_free_bytes: int) -> None:
        self._tell(
            lambda observer: observer.sizes(
                statistics_bytes=statistics_bytes,
                published_bytes=published_bytes,
                disk_free_bytes=disk_free_bytes,
            )
        )

    def message(self, level: str, text: str, **fields: object) -> None:
        self._tell(lambda observer: observer.message(level, text, **fields))

    def _tell(self, call: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            try:
                call(observer)
            except Exception:  # the one place that must survive any fault of what merely watches
                if self._drop(observer):
                    _LOGGER.exception(
                        "observer %s failed and is told nothing any more; restart the node to get it back",
                        type(observer).__name__,
                    )

    def _drop(self, broken: Observer) -> bool:
        """True for the first caller only: several threads may run into the same fault."""
        with self._lock:
            before = len(self._observers)
            self._observers = tuple(observer for observer in self._observers if observer is not broken)
            return len(self._observers) < before
