"""What became of a push, as the ledger tells it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from mergenode.adapters.registries.pushes import REGISTRY
from mergenode.errors import RejectReason
from mergenode.ledger.considered import HINT, considered, left_out_message
from mergenode.ledger.records import ContributionFact, Duplicate, Folded, Quarantined, Rejected, Retracted, Selected
from mergenode.ports.ledger_store import LedgerReader
from mergenode.types import Digest

_KINDS = ("folded", "rejected", "duplicate", "retracted", "quarantined", "released", "deselected")
_LOOKED_BACK = 8


class Fate(StrEnum):
    """How a contribution ended."""

    FOLDED = "folded"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    RETRACTED = "retracted"
    QUARANTINED = "quarantined"
    NOT_SELECTED = "not_selected"


@dataclass(frozen=True, slots=True)
class Outcome:
    """``share_kept``: in [0, 1], None where the method does not define it. ``reason``: a code of docs/outcomes.md.

    ``in_merge``: of a duplicate, whether its content is in the merge or waits as somebody else's. ``score``: of one
    that was not selected, in units of the loss; None where it has none. Its ``reason`` is a code of docs/selection.md.
    """

    fate: Fate
    reason: str = ""
    message: str = ""
    hint: str = ""
    share_kept: float | None = None
    in_merge: bool = False
    score: float | None = None


class Outcomes(Protocol):
    """Asked from several threads. Every answer may raise TransientError when the ledger cannot be read now."""

    def position(self) -> int:
        """Sequence number of the newest fact; 0 without any."""
        ...

    def of_push(self, entry: str, after: int) -> Outcome | None:
        """What became of an entry of the registry of pushes, by facts beyond ``after``; None: it waits."""
        ...

    def of_content(self, content: Digest) -> Outcome | None:
        """FOLDED when this content is in the merge, RETRACTED when it was taken out, QUARANTINED while it is held back,
        REJECTED when it was dropped from there, else None."""
        ...

    def of_pool(self, content: Digest) -> Outcome | None:
        """Where a selector chooses: NOT_SELECTED when the newest selection had this content in its pool and gave it no
        weight, FOLDED when it is in the merge; None: it waits for a selection, or to be folded."""
        ...


class LedgerOutcomes:
    """Outcomes from the ledger of the node. ``selects``: a selector chooses what is folded."""

    def __init__(self, reader: LedgerReader, *, selects: bool = False) -> None:
        self._reader, self._selects = reader, selects

    def position(self) -> int:
        newest = self._reader.facts(newest=1)
        return newest[-1][0] if newest else 0

    def of_push(self, entry: str, after: int) -> Outcome | None:
        for sequence, fact in reversed(self._reader.facts(kinds=_KINDS, name=entry, newest=_LOOKED_BACK)):
            if sequence > after and isinstance(fact, ContributionFact) and fact.registry == REGISTRY:
                # The same content may have been let in under another name.
                let_in = self.of_content(fact.content) if isinstance(fact, Quarantined) else None
                return let_in or _outcome(fact)
        return None

    def of_content(self, content: Digest) -> Outcome | None:
        if (member := self._member(content)) is not None:
            return member
        held = self._reader.held(content)
        if held is not None:
            return _outcome(held)
        refusal = self._reader.refusal(content)
        if refusal is not None and refusal.reason == RejectReason.DROPPED:
            return _outcome(refusal)
        retraction = self._reader.retraction(content)
        return None if retraction is None else _outcome(retraction)

    def of_pool(self, content: Digest) -> Outcome | None:
        if not self._selects:
            return None
        for _, fact in self._reader.facts(kinds=("selected",), newest=1):
            found = considered(fact, content) if isinstance(fact, Selected) else None
            if isinstance(fact, Selected) and found is not None and found.left_out:
                message = left_out_message(fact, found)
                return Outcome(Fate.NOT_SELECTED, found.why, message, HINT, score=found.score)
        return self._member(content)

    def _member(self, content: Digest) -> Outcome | None:
        member = self._reader.by_content(content)
        if member is None:
            return None
        shared = _share_kept(member) if isinstance(member, Folded) else None
        return Outcome(Fate.FOLDED, message=f"in the merge as {member.name}", share_kept=shared)


def _outcome(fact: ContributionFact) -> Outcome | None:
    match fact:
        case Folded():
            return Outcome(Fate.FOLDED, share_kept=_share_kept(fact))
        case Duplicate():
            return Outcome(Fate.DUPLICATE, message=f"in the merge as {fact.same_as}")
        case Rejected():
            return Outcome(Fate.REJECTED, fact.reason, fact.message, fact.hint)
        case Quarantined():
            hint = "An operator of the node looks at it: `mergenode quarantine show` there. " + fact.hint
            return Outcome(Fate.QUARANTINED, fact.reason, fact.message, hint.strip())
        case Retracted():
            why = f": {fact.why}" if fact.why else ""
            message = f"it was taken out of the merge as {fact.name} on {fact.time}{why}"
            hint = "Nothing is to be done, unless that was a mistake: its operator can take it in again."
            return Outcome(Fate.RETRACTED, RejectReason.RETRACTED.value, message, hint)
    return None


def _share_kept(fact: Folded) -> float | None:
    """Of the whole contribution."""
    for group in fact.groups:
        if group.get("group") == "*":
            share = group.get("share_kept")
            return None if share is None else float(share)
    return None
