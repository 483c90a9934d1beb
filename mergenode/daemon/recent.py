"""The newest folds, kept in memory for the manifests: reading a thousand facts again for every version costs more than
publishing a small model."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from mergenode.daemon.manifest import LISTED_CONTRIBUTIONS
from mergenode.ledger.records import Folded
from mergenode.ports.ledger_store import LedgerReader


@dataclass(slots=True)
class RecentFolds:
    """At most ``LISTED_CONTRIBUTIONS`` folds, oldest first; of all but the newest only what a manifest lists."""

    _folds: deque[Folded] = field(default_factory=lambda: deque(maxlen=LISTED_CONTRIBUTIONS))

    def upto(self, ledger: LedgerReader, generation: int) -> tuple[Folded, ...]:
        """The newest folds of a ledger whose committed generation is ``generation``. Asks for new ones only."""
        known = self._folds[-1].generation if self._folds else 0
        missing = min(generation - known, LISTED_CONTRIBUTIONS)
        if missing > 0:
            if self._folds:
                self._folds.append(_listed(self._folds.pop()))
            found = [fact for _, fact in ledger.facts(kinds=["folded"], newest=missing) if isinstance(fact, Folded)]
            self._folds.extend([*map(_listed, found[:-1]), found[-1]])
        return tuple(self._folds)


def _listed(fact: Folded) -> Folded:
    """The fact without the reports per layer group: only the first group, the whole model, is listed."""
    return replace(fact, groups=fact.groups[:1], totals={}, warnings=())
