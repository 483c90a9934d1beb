"""How a merge is made again without some of its contributions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from mergenode.ledger.restatement import Replay, Subtract
from mergenode.ports.observer import Observer
from mergenode.types import Candidate, Digest


@dataclass(frozen=True, slots=True)
class Restatement:
    """New statistics, durable in the folding folder, not committed yet."""

    statistics: Digest
    totals: Mapping[str, float]
    bytes_read: int = 0
    bytes_written: int = 0


class Restater(Protocol):
    """Carries out what ``ledger.restatement`` decided. Committed statistics are never touched."""

    def is_at_hand(self, candidate: Candidate) -> bool:
        """Whether there is something to read at the candidate's location. Cheap: its content is checked when read.

        Raises TransientError when that cannot be told now.
        """
        ...

    def restate(self, way: Subtract | Replay, observer: Observer) -> Restatement:
        """Leave the statistics that ``way`` leads to in the folding folder.

        Durability: synced on return. Idempotence: killed half way, the same call goes on after the last durable shard
        (subtract) or contribution (replay); another one starts afresh.

        Raises:
            RejectedError: a contribution cannot be read again as it was: GONE, DIGEST_MISMATCH, or what makes any
            contribution unreadable.
            TransientError: try again later.
        """
        ...

    def clear(self) -> None:
        """Remove what an unfinished replay left. Idempotent."""
        ...
