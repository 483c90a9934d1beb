"""What became of a checkpoint where a selector chooses of a pool."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mergenode.ledger.considered import HINT, considered, left_out_message
from mergenode.ledger.records import Fact, Selected

if TYPE_CHECKING:
    from mergenode.ports.ledger_store import LedgerReader
    from mergenode.types import Digest


@dataclass(frozen=True, slots=True)
class NotSelected:
    """No fact of its own: the selection ``sequence`` had the content in its pool and gave it no weight.

    ``reason``: its ``why`` of `mergenode pool rank`; ``score``: None where it has none.
    """

    sequence: int
    time: str
    name: str
    content: Digest
    reason: str
    score: float | None
    message: str
    hint: str = HINT


@dataclass
class Pooled:
    """What became of a path where a selector chooses: that is told of its content, whatever name stands for it."""

    reader: LedgerReader
    path: Path

    @cached_property
    def content(self) -> Digest:
        """Reads the whole checkpoint, once. Raises RejectedError, TransientError."""
        from mergenode.adapters.checkpoints.digest import content_digest
        from mergenode.adapters.checkpoints.regular_file import trusted_root

        return content_digest(self.path, root=trusted_root(self.path))

    def outcome(self) -> tuple[int, Fact] | NotSelected | None:
        """Left out by the newest selection, or in the merge; None: it waits for a selection, or to be folded."""
        for sequence, fact in self.reader.facts(kinds=("selected",), newest=1):
            found = considered(fact, self.content) if isinstance(fact, Selected) else None
            if isinstance(fact, Selected) and found is not None and found.left_out:
                message = left_out_message(fact, found)
                return NotSelected(
                    sequence, fact.time, self.path.name, self.content, found.why, found.score, message
                )  # fmt: skip
        member = self.reader.by_content(self.content)
        if member is None:
            return None
        return next(iter(self.reader.facts(kinds=(member.kind,), name=member.name, newest=1)), None)
