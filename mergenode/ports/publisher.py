"""Where versions become visible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from mergenode.types import Digest


class Publisher(Protocol):
    """Stages a version, then makes it visible whole. A reader never sees half of one."""

    def stage(self, version: int) -> str:
        """An empty private directory for this version; leftovers of an earlier attempt are removed.

        Raises FatalError when a version that this node did not make is in the way, before any work is done.
        """
        ...

    def visible(self, version: int) -> Mapping[str, Any] | None:
        """The manifest of a version that is already in place, or None."""
        ...

    def holds(self, version: int) -> bool:
        """True when this version's files are in place; cheaper than ``visible``, which reads its manifest."""
        ...

    def publish(self, version: int, manifest: Mapping[str, Any], content: bytes, card: str) -> None:
        """Complete the staged version (side files of the base, manifest, card), sync it, rename it into place.

        ``content`` is the manifest as it is stored. Raises FatalError when another node's version is in the way.
        """
        ...

    def digest(self, version: int) -> Digest:
        """Digest of the manifest of a version that is in place."""
        ...

    def path(self, version: int) -> str:
        """Where readers find this version."""
        ...

    def point_latest(self, version: int) -> None:
        """Move ``latest``, atomically and durably. Idempotent."""
        ...

    def prune(self, keep: int) -> Sequence[int]:
        """Remove the oldest versions beyond ``keep``, never the one behind ``latest`` nor a newer one.

        Returns what was removed.
        """
        ...

    def sizes(self) -> tuple[int, int]:
        """Bytes used by published versions, and free bytes on their file system."""
        ...
