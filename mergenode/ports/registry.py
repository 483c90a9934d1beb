"""Where checkpoints appear."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mergenode.types import Candidate, Listing


class Registry(Protocol):
    """A place that lists checkpoints. Listing is the truth; listing twice without a change gives equal values."""

    @property
    def name(self) -> str:
        """Stable name used in facts and metric labels (bounded: one per configured registry)."""
        ...

    def list(self) -> Listing:
        """What is there now, reading no weights.

        Raises:
            TransientError: unreachable, vanished or unreadable. Never an empty listing in that case.
        """
        ...

    def settled(self, candidate: Candidate) -> None:
        """An outcome of this candidate is durable. Most registries do nothing; a request is removed."""
        ...

    def close(self) -> None: ...


class Watch(Protocol):
    """A hint source that shortens the wait. It may miss events, never has to be right and never raises."""

    @property
    def active(self) -> bool: ...

    def start(self, poke: Callable[[], None]) -> None: ...

    def stop(self) -> None: ...
