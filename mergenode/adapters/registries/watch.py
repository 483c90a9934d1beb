"""Hints that something changed in a directory. They shorten the wait; the listing stays the truth.

Lost events, an overflowing queue or a watch that dies cost time, never a checkpoint: the registry is listed
anyway.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler

from mergenode.adapters.registries import names
from mergenode.adapters.registries.filesystem import file_system
from mergenode.adapters.registries.inotify import INSTANCE, Subscription
from mergenode.adapters.registries.marker import is_marker
from mergenode.ports.registry import Watch

DEBOUNCE_SECONDS = 0.25


class Throttle:
    """Passes on the first signal of a burst at once, then at most one per ``seconds`` while it lasts."""

    def __init__(self, poke: Callable[[], None], seconds: float = DEBOUNCE_SECONDS) -> None:
        self._poke = poke
        self._seconds = seconds
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._again = False
        self._closed = False

    def signal(self, *, urgent: bool = False) -> None:
        """Something happened. ``urgent`` is passed on at once whatever came before."""
        with self._lock:
            if self._closed:
                return
            quiet = self._timer is None
            if quiet:
                self._rest()
            else:
                self._again = not urgent
        if quiet or urgent:
            self._poke()

    def close(self) -> None:
        """No poke follows, except one that is being delivered right now."""
        with self._lock:
            self._closed = True
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _rest(self) -> None:
        self._timer = threading.Timer(self._seconds, self._rested)
        self._timer.daemon = True
        self._timer.start()

    def _rested(self) -> None:
        with self._lock:
            again, self._again = self._again, False
            if self._closed or not again:
                self._timer = None
                return
            self._rest()
        self._poke()


class FolderWatch:
    """inotify on a registry root and what lies below it.

    ``on_message`` gets one sentence when watching cannot start or has ended; the node then polls, as always.
    """

    def __init__(
        self,
        root: Path,
        *,
        on_message: Callable[[str], None],
        debounce_seconds: float = DEBOUNCE_SECONDS,
    ) -> None:
        self._root = root.absolute()
        self._on_message = on_message
        self._debounce_seconds = debounce_seconds
        self._subscription: Subscription | None = None
        self._identity: tuple[int, int] | None = None
        self._throttle: Throttle | None = None
        self._failure = ""

    @property
    def active(self) -> bool:
        """True while changes are reported: not when the root was removed, moved or mounted over."""
        subscription = self._subscription
        return subscription is not None and subscription.alive and self._identity == _identity(self._root)

    def start(self, poke: Callable[[], None]) -> None:
        """Begin, or begin again after ``active`` turned False; a repeated failure is told once."""
        if self.active:
            return
        self.stop()
        throttle = Throttle(poke, self._debounce_seconds)
        identity = _identity(self._root)
        root = os.path.realpath(self._root)  # a link itself would be watched
        try:
            subscription = INSTANCE.subscribe(root, _Handler(throttle, root))
        except (OSError, RuntimeError) as error:  # RuntimeError: no thread to be had
            throttle.close()
            self._tell(f"{self._root}: no change notifications ({error}); polling instead")
            return
        self._subscription, self._throttle, self._identity = subscription, throttle, identity
        self._failure = ""

    def stop(self) -> None:
        """Stop reporting. Idempotent."""
        throttle, self._throttle = self._throttle, None
        subscription, self._subscription = self._subscription, None
        if throttle is not None:
            throttle.close()
        if subscription is not None:
            INSTANCE.unsubscribe(subscription)

    def _tell(self, message: str) -> None:
        if message != self._failure:
            self._failure = message
            self._on_message(names.printable(message))


class SilentWatch:
    """For file systems that never notify: there is nothing to start."""

    @property
    def active(self) -> bool:
        return False

    def start(self, poke: Callable[[], None]) -> None:
        """Does nothing: the registry is polled."""

    def stop(self) -> None:
        """Does nothing."""


def open_watch(root: Path, on_message: Callable[[str], None]) -> Watch:
    """A watch on ``root``, not started; a silent one where its file system does not tell about changes.

    ``on_message`` gets one sentence when changes will not be reported. A root that is missing, or on a share whose
    server does not answer, may notify later.
    """
    kind = file_system(root)
    if kind.notifies or _identity(root) is None:
        return FolderWatch(root, on_message=on_message)
    on_message(f"{names.printable(str(root))}: no change notifications on {kind.name}; polling instead")
    return SilentWatch()


class _Handler(FileSystemEventHandler):
    """Passes on what concerns finished names; temporary ones would make the node look too early."""

    def __init__(self, throttle: Throttle, root: str) -> None:
        self._throttle = throttle
        self._root = root

    def on_any_event(self, event: FileSystemEvent) -> None:
        path = os.fsdecode(event.dest_path or event.src_path)
        parts = Path(os.path.relpath(path, self._root)).parts
        if any(part not in (".", "..") and names.is_in_progress(part) for part in parts):
            return
        self._throttle.signal(urgent=bool(parts) and is_marker(parts[-1]))


def _identity(root: Path) -> tuple[int, int] | None:
    try:
        status = root.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino)
