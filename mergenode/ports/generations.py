"""The statistics on disk, one generation per committed fold."""

from __future__ import annotations

from typing import Protocol


class Generations(Protocol):
    """Moves finished folds into place. Exactly one generation is current: the one the ledger names.

    Some earlier ones may be kept as snapshots, see ``ledger.snapshots``.
    """

    def install(self, generation: int) -> None:
        """Rename the folding folder to this generation and sync the directory: a moment before the ledger fact."""
        ...

    def recover(self, current: int) -> list[str]:
        """At start: a generation newer than the ledger's goes back to the folding folder, older ones that are
        no snapshots are removed.

        Returns what was done, one sentence each. Raises FatalError when the current generation is missing.
        """
        ...

    def retire(self, current: int) -> None:
        """Remove the generations before ``current`` that are not kept as snapshots."""
        ...

    def snapshots(self, current: int) -> tuple[int, ...]:
        """The generations before ``current`` that are kept, oldest first."""
        ...

    def discard(self) -> None:
        """Remove the folding folder (the fold was rejected or is a duplicate)."""
        ...

    def sizes(self) -> tuple[int, int]:
        """Bytes used, and free bytes on the file system."""
        ...
