"""Contributions leave the merge: plan -> compute -> commit. Publishing follows as after a fold."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from mergenode.daemon.bringing_back import impossible, unreadable
from mergenode.daemon.contribute import Line, origin_of, tidy
from mergenode.errors import RejectedError, RejectReason
from mergenode.ledger.changes import Change
from mergenode.ledger.records import Fact, Left, Member, Published, Restated, Retracted
from mergenode.ledger.restatement import (
    REPLAYED,
    SUBTRACTED,
    Impossible,
    Replay,
    Subtract,
    as_candidate,
    found_elsewhere,
    lineage_after,
    moments,
    plan_restatement,
)
from mergenode.ports.ledger_store import LedgerReader
from mergenode.ports.restater import Restatement
from mergenode.types import Candidate, Head

Departure = Callable[[Member, str], Left]
"""The fact by which a member leaves, at this time."""


def restate(
    line: Line, change: Change, *, departure: Departure | None = None, before: Sequence[Fact] = ()
) -> Restated | None:
    """Carry out a change of the merge; None when nothing is left to do (it was carried out before a kill).

    ``departure``: None makes ``retracted`` facts. ``before``: facts that go into the same append, before these.

    Durability: the returned fact is in the ledger, with one ``retracted`` for each contribution that left. Idempotence:
    killed half way, the next call goes on from finished work.

    Raises:
        RejectedError: it cannot be carried out; nothing was changed.
        TransientError: try again later.
    """
    head = line.ledger.head()
    started = line.clock.monotonic()
    line.generations.recover(head.generation)
    try:
        leaving = leaving_members(line.ledger, change)
        if not leaving:
            tidy(line, line.restater.clear)
            return None
        way = way_to(
            line.ledger, change, leaving, retractable=line.retractable,
            snapshots=line.generations.snapshots(head.generation), is_at_hand=line.restater.is_at_hand,
        )  # fmt: skip
        try:
            result = line.restater.restate(way, line.observer)
        except RejectedError as error:
            raise unreadable(error, way, change, line.ledger) from error
    except RejectedError:
        # Nobody goes on from there: removed before the answer, no kill leaves half a replay behind.
        tidy(line, line.restater.clear)
        raise
    now = line.clock.now()
    leave = departure if departure is not None else _retraction(change.why)
    left = [leave(member, now) for member in leaving]
    return _commit(line, change, head, (way, result, [*before, *left]), line.clock.monotonic() - started)


def _retraction(why: str) -> Departure:
    def leave(member: Member, now: str) -> Left:
        return Retracted(
            time=now, registry=member.registry, name=member.name, revision=member.revision, content=member.content,
            why=why,
        )  # fmt: skip

    return leave


def leaving_members(ledger: LedgerReader, change: Change) -> list[Member]:
    """What leaves the merge by this change, in order; what is out already is not named again.

    Raises RejectedError: RETRACTED when a rollback would bring back what was retracted since, GONE when it names no
    version.
    """
    if change.rollback_to is None:
        found = [ledger.by_content(content) for content in change.contents]
        return [member for member in found if member is not None]
    then = _members_of_version(ledger, change.rollback_to)
    now = {sequence: member for sequence, member in ledger.members()}
    if back := [sequence for sequence in then if sequence not in now]:
        raise RejectedError(
            RejectReason.RETRACTED,
            f"version {change.rollback_to} holds {len(back)} contributions that were retracted since",
            hint="A rollback takes out, it brings nothing back: `mergenode ingest PATH` does, for each of them.",
        )
    return [member for sequence, member in now.items() if sequence not in then]


def _members_of_version(ledger: LedgerReader, version: int) -> frozenset[int]:
    """The facts by which the contributions of a version entered, as sequence numbers."""
    published = [fact for _, fact in ledger.facts(kinds=["published"]) if isinstance(fact, Published)]
    found = next((fact for fact in published if fact.version == version), None)
    if found is None or found.round is not None:
        what = "there is no version" if found is None else "no contributions were merged into version"
        raise RejectedError(
            RejectReason.GONE,
            f"{what} {version}",
            hint="`mergenode history --kind published` lists the versions.",
        )
    generation = found.generation
    return frozenset(moments(ledger.history(), {generation})[generation].members)


def way_to(
    ledger: LedgerReader, change: Change, leaving: Collection[Member], *, retractable: bool, snapshots: Collection[int],
    is_at_hand: Callable[[Candidate], bool],
) -> Subtract | Replay:  # fmt: skip
    """How the merge without ``leaving`` is made. Raises RejectedError (GONE) when it cannot be.

    ``snapshots``: the earlier generations that are kept; ``is_at_hand``: see ``ports.restater``.
    """
    members = [
        (sequence, found_elsewhere(as_candidate(member), change.places)) for sequence, member in ledger.members()
    ]
    way = plan_restatement(
        ledger.head(),
        members,
        {member.content for member in leaving},
        retractable=retractable,
        snapshots=moments(ledger.history(), snapshots).values() if snapshots else (),
        at_hand={candidate.content for _, candidate in members if candidate.content and is_at_hand(candidate)},
    )
    if isinstance(way, Impossible):
        raise impossible(way, change)
    return way


def _commit(
    line: Line, change: Change, head: Head, done: tuple[Subtract | Replay, Restatement, list[Fact]], seconds: float
) -> Restated:
    way, result, facts = done
    fact = Restated(
        time=line.clock.now(),
        generation=head.generation + 1,
        count=head.count - sum(isinstance(each, Left) for each in facts),
        totals=result.totals,
        statistics=result.statistics,
        lineage=lineage_after(way, origin_of(line)),
        how=SUBTRACTED if isinstance(way, Subtract) else REPLAYED,
        start=way.start.generation if isinstance(way, Replay) else None,
        rollback_to=change.rollback_to,
        seconds=seconds,
        bytes_read=result.bytes_read,
        bytes_written=result.bytes_written,
    )
    # The files first, then the facts that name them: see ``contribute``.
    line.generations.install(fact.generation)
    line.ledger.append(*facts, fact)
    for each in (*facts, fact):
        line.observer.fact(each)
    line.elsewhere.recorded([*facts, fact])
    tidy(line, lambda: line.generations.retire(fact.generation))
    tidy(line, line.restater.clear)
    return fact
