"""Pulls the weights of the newest heads in the background, newest first, and gives up what was superseded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from mergenode.adapters.peers.weights.blob_calls import UnusableModel
from mergenode.adapters.peers.weights.fetching import Fetcher, Order
from mergenode.adapters.peers.weights.shelf import Shelf
from mergenode.adapters.peers.weights.sources import Patience, Source
from mergenode.adapters.peers.weights.transfer_observer import TransferObserver
from mergenode.errors import MergenodeError
from mergenode.wire.blocks import Root

_POLL_SECONDS = 5.0
"""How often the heads are looked at when nobody says that they changed."""

_LONGEST_PAUSE = 15.0
"""Seconds until a model that could not be fetched is tried again: nodes come back, disks are cleared."""


@dataclass(frozen=True, slots=True)
class Want:
    """A model that should be here. ``node_id``: who named it; ``sources``: who may hold it, best first, now;
    ``prefer``: models that are probably close to it, as in ``Order``."""

    root: Root
    node_id: UUID
    schema: bytes | None
    sources: Callable[[], Sequence[Source]]
    prefer: Sequence[Root] = ()


class Replication:
    """A thread that decides and up to ``most`` that fetch. ``start``, then ``stop`` at the end."""

    def __init__(
        self,
        shelf: Shelf,
        fetcher: Fetcher,
        wants: Callable[[], Sequence[Want]],
        arrived: Callable[[Root], None],
        refused: Callable[[Want, UnusableModel], None],
        observer: TransferObserver,
        most: int = 2,
        patience: Patience | None = None,
    ) -> None:
        """``wants``: what should be here now, the most important first. ``arrived`` and ``refused`` are called from
        the threads that fetch; a refused model is not tried again in this life."""
        self._shelf, self._fetcher, self._wants = shelf, fetcher, wants
        self._arrived, self._refused, self._observer, self._most = arrived, refused, observer, most
        self._patience = patience or Patience()
        self._changed = threading.Condition()
        self._poked = self._ending = False
        self._active: dict[Root, threading.Thread] = {}
        self._wanted: frozenset[Root] = frozenset()
        self._copied: set[Root] = set()
        self._useless: set[Root] = set()
        self._failures: dict[Root, int] = {}
        self._waiting: dict[Root, threading.Timer] = {}
        self._thread = threading.Thread(target=self._run, name="replication", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def poke(self) -> None:
        """What is wanted, or who can be asked, may have changed. From any thread."""
        with self._changed:
            self._poked = True
            self._changed.notify_all()

    def stop(self) -> None:
        """End all transfers; what came is resumed in another life. Returns when no thread is left."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._fetcher.stop()
        self._thread.join()
        for timer in self._waiting.values():
            timer.cancel()
        for thread in list(self._active.values()):
            thread.join()

    def _run(self) -> None:
        while True:
            self._plan()
            with self._changed:
                if not self._poked and not self._ending:
                    self._changed.wait(_POLL_SECONDS)
                self._poked = False
                if self._ending:
                    return

    def _plan(self) -> None:
        """Start what is missing and free; forget what nobody wants any more."""
        wants = {want.root: want for want in reversed(self._wants())}
        missing = [want for want in reversed(wants.values()) if self._shelf.whole(want.root) is None]
        with self._changed:
            self._wanted = frozenset(wants)
            self._useless &= self._wanted
            self._copied &= self._wanted
            for want in missing:
                free = len(self._active) < self._most and not self._ending
                if free and want.root not in self._active.keys() | self._waiting.keys() | self._useless:
                    thread = threading.Thread(target=self._fetch, args=(want,), name="fetching", daemon=True)
                    self._active[want.root] = thread
                    thread.start()
        self._fetcher.book.keep(self._wanted)
        self._clear({want.root for want in missing})

    def _clear(self, missing: set[Root]) -> None:
        """Remove transfers that were given up, once everything that is missing took what it could from them."""
        with self._changed:
            if missing - self._copied - self._useless:
                return
            dropped = [root for root in self._shelf.stagings() if root not in self._wanted | self._active.keys()]
        for root in dropped:
            self._shelf.drop_staging(root)

    def _fetch(self, want: Want) -> None:
        root = want.root
        order = Order(
            root, want.sources, want.schema, lambda: root in self._wanted, lambda: self._noted(root), want.prefer
        )
        whole = failed = False
        try:
            whole = self._fetcher.fetch(order)
        except UnusableModel as error:
            with self._changed:
                self._useless.add(root)
            self._refused(want, error)
        except (MergenodeError, OSError) as error:
            failed = True
            self._observer.postponed(root, str(error))
        with self._changed:
            self._active.pop(root)
            failures = self._failures.pop(root, 0) + 1
            if failed and not self._ending:
                self._failures[root] = failures
                self._again_after(root, min(_LONGEST_PAUSE, self._patience.pause(failures)))
        if whole:
            self._arrived(root)
        self.poke()

    def _noted(self, root: Root) -> None:
        with self._changed:
            self._copied.add(root)
        self.poke()

    def _again_after(self, root: Root, seconds: float) -> None:
        def over() -> None:
            with self._changed:
                self._waiting.pop(root, None)
            self.poke()

        timer = threading.Timer(seconds, over)
        timer.daemon = True
        self._waiting[root] = timer
        timer.start()
