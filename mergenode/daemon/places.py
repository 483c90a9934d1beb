"""Which trace the work of the loop belongs to."""

from __future__ import annotations

from mergenode.errors import TransientError
from mergenode.ledger.actions import Action, Fold, Index, MarkDuplicate, Publish
from mergenode.ledger.traces import trace_of
from mergenode.ports.ledger_store import LedgerReader
from mergenode.tracing.context import Place, at
from mergenode.tracing.ids import contribution_trace, merge_trace
from mergenode.tracing.spans import MOST_LINKS

_USUAL = 2
_CHANGES = ("folded", "admitted", "retracted", "yielded", "deselected")


def place_of(action: Action, ledger: LedgerReader) -> Place | None:
    """Where the log lines of an action belong, those about its failures too; None where it is about no contribution."""
    match action:
        case Fold(candidate) | MarkDuplicate(candidate) | Index(candidate):
            return at(contribution_trace(*candidate.key))
        case Publish():
            try:
                return publishing(ledger)
            except TransientError:  # which fails the action as well, and that is told
                return None
        case _:
            return None


def publishing(ledger: LedgerReader) -> Place:
    """Of the next version: the contribution that entered or left last, linked to the others since the version before.

    Reads a bounded number of facts. Raises TransientError when the ledger cannot be read now.
    """
    versions = ledger.facts(kinds=("published",), newest=1)
    before = versions[-1][0] if versions else 0
    for most in (_USUAL, MOST_LINKS):  # a fact can be large, and mostly one is new
        changes = ledger.facts(kinds=_CHANGES, newest=most)
        new = [fact for sequence, fact in reversed(changes) if sequence > before]
        if len(new) < most:
            break
    found = list(dict.fromkeys(trace_of(fact) for fact in new))
    if not found:
        return at(merge_trace(ledger.head().lineage or ""))
    return at(found[0], links=tuple(found[1:]))
