"""The newest contributions, kept in memory for the manifests.

Reading a thousand facts again for every version costs more than publishing a small model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from mergenode.daemon.manifest import LISTED_CONTRIBUTIONS
from mergenode.ledger.records import Folded, Member
from mergenode.ports.ledger_store import LedgerReader
from mergenode.types import Head


class Listed(Protocol):
    """What the manifest of a version says about contributions."""

    def of(self, ledger: LedgerReader, head: Head) -> tuple[Member, ...]:
        """The contributions that the manifest of a ledger at ``head`` lists, in its order."""
        ...

    def parts(self, ledger: LedgerReader) -> Sequence[Mapping[str, Any]] | None:
        """Of a union: the parts it is the sum of. None for the merge of one node."""
        ...


@dataclass(slots=True)
class RecentMembers:
    """At most ``LISTED_CONTRIBUTIONS`` of what is in the merge, oldest first; of all but the newest only what a
    manifest lists."""

    _members: deque[Member] = field(default_factory=lambda: deque(maxlen=LISTED_CONTRIBUTIONS))
    _known: Head = field(default_factory=Head)

    def of(self, ledger: LedgerReader, head: Head) -> tuple[Member, ...]:
        """The newest members of a ledger that is at ``head``. Asks for new ones only, as long as nothing left."""
        folds = head.generation - self._known.generation
        if head.count - self._known.count != folds:
            self._members.clear()  # a change of the merge lies between: everything is asked for again
        elif self._members and folds:
            self._members.append(_listed(self._members.pop()))
        wanted = min(LISTED_CONTRIBUTIONS, folds if self._members else head.count)
        found = [fact for _, fact in ledger.newest_members(wanted)] if wanted > 0 else []
        self._members.extend([*map(_listed, found[:-1]), *found[-1:]])
        self._known = head
        return tuple(self._members)

    def parts(self, ledger: LedgerReader) -> Sequence[Mapping[str, Any]] | None:
        return None


def _listed(fact: Member) -> Member:
    """The fact without the reports per layer group: only the first group, the whole model, is listed."""
    return replace(fact, groups=fact.groups[:1], totals={}, warnings=()) if isinstance(fact, Folded) else fact
