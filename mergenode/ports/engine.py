"""How a fold and an export are executed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mergenode.ports.observer import Observer
from mergenode.types import Candidate, Digest, FoldResult, Head


class Stopped(Exception):
    """Work was put down between two steps because the node is stopping. Finished shards are kept."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A version's weight files, durable in the staging directory but not visible yet."""

    tensors: dict[str, Digest]
    bytes_read: int
    bytes_written: int


class Engine(Protocol):
    """Streams tensors between files and a merge method. Holds no decision about what is folded or when."""

    def fold(self, candidate: Candidate, head: Head, observer: Observer) -> FoldResult:
        """Fold one contribution into *new* statistics, leaving the committed ones untouched.

        Durability: on return every file of the new generation is synced inside the folding folder, not yet committed.
        Idempotence: killed half way, the next call with the same candidate revision and head goes on after the last
        durable shard; with another candidate or head it starts afresh.

        Raises:
            RejectedError: the contribution can never be folded as it is.
            TransientError: try again later; finished shards are kept.
        """
        ...

    def export(self, head: Head, staging: str, observer: Observer) -> Exported:
        """Write the weight files of the version that ``head`` describes into the directory ``staging``.

        Durability: files are synced on return. Idempotence: same head, same bytes.
        """
        ...
