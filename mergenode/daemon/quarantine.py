"""What the operator decides about contents in quarantine: let them go, or drop them."""

from __future__ import annotations

from collections.abc import Iterator

from mergenode.errors import RejectedError, RejectReason
from mergenode.ledger.changes import RELEASE, Change
from mergenode.ledger.records import ContributionFact, Quarantined, Rejected, Released
from mergenode.ports.ledger_store import LedgerReader
from mergenode.types import Digest


def decide(ledger: LedgerReader, change: Change, now: str) -> tuple[ContributionFact, ...]:
    """The facts by which a decision of the operator becomes the ledger's; none where it is so already.

    One fact for every revision under which a content is in quarantine, so that any of them can bring it.

    Raises RejectedError (GONE): a content is not in quarantine; nothing is decided.
    """
    facts: list[ContributionFact] = []
    for content in dict.fromkeys(change.contents):
        held = ledger.held(content)
        if isinstance(held, Quarantined) or (held is not None and change.quarantine != RELEASE):
            facts += [_decision(each, change, now) for each in _everywhere(ledger, held.content)]
        elif held is None and not _is_so(ledger, content, change):
            raise RejectedError(
                RejectReason.GONE,
                f"{content} is not in quarantine",
                hint="`mergenode quarantine list` shows what is; `mergenode retract` takes out what is in the merge.",
            )
    return tuple(facts)


def _is_so(ledger: LedgerReader, content: Digest, change: Change) -> bool:
    """Whether it was carried out before: the request was not removed, because of a kill, and comes again."""
    if change.quarantine == RELEASE:
        return ledger.by_content(content) is not None
    refusal = ledger.refusal(content)
    return refusal is not None and refusal.reason == RejectReason.DROPPED


def _everywhere(ledger: LedgerReader, content: Digest) -> Iterator[Quarantined | Released]:
    """The newest fact about each revision that holds this content; the one that counts comes last."""
    found = {
        (fact.registry, fact.name, fact.revision): fact
        for _, fact in ledger.facts(kinds=("quarantined", "released"))
        if isinstance(fact, Quarantined | Released) and fact.content == content
    }
    newest = ledger.outcomes(found)
    for key, fact in found.items():
        if newest.get(key) == fact:
            yield fact


def _decision(held: Quarantined | Released, change: Change, now: str) -> ContributionFact:
    if change.quarantine == RELEASE:
        return Released(
            time=now, registry=held.registry, name=held.name, revision=held.revision, content=held.content,
            who=change.who, why=change.why, location=held.location, weight=held.weight, profile=held.profile,
        )  # fmt: skip
    why = f": {change.why}" if change.why else ""
    return Rejected(
        time=now, registry=held.registry, name=held.name, revision=held.revision, content=held.content,
        reason=RejectReason.DROPPED.value, message=f"{held.name}: dropped from quarantine by {change.who}{why}",
        hint="Nothing is to be done, unless that was a mistake: `mergenode ingest PATH` has it judged again.",
    )  # fmt: skip
