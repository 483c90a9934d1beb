"""What a node does to its own merge because of the others, and what its operator says to all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mergenode.daemon.contribute import Line
from mergenode.daemon.own_part import OwnPart
from mergenode.daemon.restate import Departure, leaving_members, restate
from mergenode.daemon.union_facts import ruled, yielded
from mergenode.errors import RejectedError, RejectReason
from mergenode.ledger.changes import Change
from mergenode.ledger.records import Fact, Forgotten, Left, Member
from mergenode.ledger.union import NEVER, Node, Union, next_ruling
from mergenode.ledger.union_plan import Leave
from mergenode.types import Digest


def take_out(line: Line, part: OwnPart, step: Leave, known: Union) -> bool:
    """Take contents out of the own merge, all at once or, where that fails, one by one. True when some left.

    What cannot be taken out is remembered and said: another node may be able to. Raises TransientError: try again.
    """
    keepers = dict(step.yields)
    contents = (*step.retract, *keepers)
    left = False
    for group in [contents, *([content] for content in contents)]:
        staying = [content for content in group if line.ledger.by_content(content) is not None]
        if not staying:
            continue
        try:
            why = _reason(known, staying) if step.retract else ""
            restate(line, Change("", tuple(staying), why=why), departure=_departure(keepers) if keepers else None)
            left = True
        except RejectedError as error:
            if len(staying) == 1:
                part.cannot(staying[0])
                line.observer.message("error", f"what should leave the merge stays: {error.message}", hint=error.hint)
    return left


def rule_out(
    line: Line, united: Line, known: Union, part: OwnPart, me: Node, change: Change
) -> None:  # fmt: skip
    """Carry out an operator's retraction or rollback, in the union: everybody who holds these contents takes them out.

    Durability: the rulings are in the own ledger on return, together with what left the own merge. Idempotence: what
    is ruled out already is not ruled again. Raises RejectedError when the own merge cannot do it; nothing was changed.
    """
    contents = change.contents
    if change.rollback_to is not None:
        contents = tuple(member.content for member in leaving_members(united.ledger, change))
    now = line.clock.now()
    rulings = [next_ruling(known, content, out=True, node=me, said=now, why=change.why) for content in contents]
    facts: list[Fact] = [ruled(ruling, now) for ruling in rulings if ruling is not None]
    if restate(line, replace(change, contents=contents, rollback_to=None), before=facts) is None and facts:
        _append(line, facts)
    part.can_again()


def give_up(line: Line, known: Union, newest: int, change: Change) -> None:
    """Count what a node that is gone offered up to incarnation ``newest`` no more, on every node. Durable on return.

    Raises RejectedError (GONE) when nothing is known of that node.
    """
    assert change.forget is not None
    if newest == NEVER:
        raise RejectedError(
            RejectReason.GONE,
            f"nothing is known of a node {change.forget}",
            hint="`mergenode peers` lists the nodes.",
        )
    if known.forgotten.get(change.forget, NEVER) < newest:
        now = line.clock.now()
        _append(line, [Forgotten(time=now, node=change.forget, incarnation=newest, why=change.why)])


def _append(line: Line, facts: Sequence[Fact]) -> None:
    line.ledger.append(*facts)
    for fact in facts:
        line.observer.fact(fact)
    line.elsewhere.recorded(facts)


def _departure(keepers: dict[Digest, Node]) -> Departure:
    def leave(member: Member, now: str) -> Left:
        return yielded(member, keepers[member.content], member.location, now)

    return leave


def _reason(known: Union, contents: Sequence[Digest]) -> str:
    reasons = {known.rulings[content].why for content in contents if content in known.rulings}
    return "; ".join(sorted(reason for reason in reasons if reason))[:500]
