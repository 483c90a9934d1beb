"""A registry with a watch on it: the same port, listed as before, woken up earlier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mergenode.ports.registry import Registry, Watch
from mergenode.types import Candidate, Listing


@dataclass(frozen=True, slots=True)
class WatchedRegistry:
    """Wraps a registry. The watch is started at every listing: idempotent while it lives, and the only way a watch
    comes back whose directory was missing at first or vanished for a while."""

    inner: Registry
    watch: Watch
    poke: Callable[[], None]

    @property
    def name(self) -> str:
        return self.inner.name

    def list(self) -> Listing:
        # Before the listing: what arrives after it was taken then wakes the loop again.
        self.watch.start(self.poke)
        return self.inner.list()

    def settled(self, candidate: Candidate) -> None:
        self.inner.settled(candidate)

    def close(self) -> None:
        self.watch.stop()
        self.inner.close()
