"""The process's one inotify instance: a user has few, shared by all of the user's programs."""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.api import ObservedWatch
from watchdog.observers.inotify import InotifyObserver

_EVENTS: list[type[FileSystemEvent]] = [
    DirCreatedEvent, DirDeletedEvent, DirMovedEvent,
    FileClosedEvent, FileCreatedEvent, FileDeletedEvent, FileMovedEvent,
]  # fmt: skip
"""Not every write: a file matters when it appears, is closed, renamed or removed."""


@dataclass(slots=True, eq=False)
class Subscription:
    """One watched directory tree of the instance it was made on."""

    observer: InotifyObserver
    watch: ObservedWatch
    handler: FileSystemEventHandler

    @property
    def alive(self) -> bool:
        """True while events of this tree are still read: the instance and the tree's own reader both run."""
        emitter = next((e for e in tuple(self.observer.emitters) if e.watch == self.watch), None)
        return emitter is not None and emitter.is_alive() and self.observer.is_alive()


class InotifyInstance:
    """Starts with the first subscription and ends with the last one. Safe to use from any thread."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start afresh, as a forked child must: it has its parent's objects but none of the threads."""
        self._lock = threading.Lock()
        self._observer: InotifyObserver | None = None
        self._subscriptions: list[Subscription] = []

    def subscribe(self, root: str, handler: FileSystemEventHandler) -> Subscription:
        """Watch a directory (a resolved path) and everything below it.

        Raises OSError: no such directory, or the limit of instances (EMFILE) or watches (ENOSPC) is reached.
        """
        if not Path(root).is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), root)
        with self._lock:
            observer = self._running()
            try:
                subscription = self._schedule(observer, root, handler)
            except OSError:
                self._stop_if_unused()
                raise
            self._subscriptions.append(subscription)
            return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Stop watching. Idempotent."""
        with self._lock:
            if subscription not in self._subscriptions:
                return
            self._subscriptions.remove(subscription)
            if any(other.watch is subscription.watch for other in self._subscriptions):
                subscription.observer.remove_handler_for_watch(subscription.handler, subscription.watch)
            else:
                subscription.observer.unschedule(subscription.watch)
            self._stop_if_unused()

    def _running(self) -> InotifyObserver:
        if self._observer is None or not self._observer.is_alive():
            observer = InotifyObserver()
            observer.start()
            self._observer, self._subscriptions = observer, []
        return self._observer

    def _schedule(self, observer: InotifyObserver, root: str, handler: FileSystemEventHandler) -> Subscription:
        same = [other for other in self._subscriptions if other.watch.path == root]
        if same and same[0].alive:
            observer.add_handler_for_watch(handler, same[0].watch)
            return Subscription(observer, same[0].watch, handler)
        if same:
            # Their directory is gone; as long as its dead reader is scheduled, no new one would start.
            observer.unschedule(same[0].watch)
            self._subscriptions = [other for other in self._subscriptions if other not in same]
        watch = observer.schedule(handler, root, recursive=True, event_filter=_EVENTS)
        return Subscription(observer, watch, handler)

    def _stop_if_unused(self) -> None:
        if not self._subscriptions and self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None


INSTANCE = InotifyInstance()
"""Shared by all watches of the process."""

os.register_at_fork(after_in_child=INSTANCE.forget)
