"""What a node of a union does next for it, decided from values alone.

``next_step`` is total, idempotent and makes progress, like ``plan.next_action``, in whose order it has one place: after
what the operator asked for, before the node's own folds. The order within is the contract:

1. hear what arrived: rulings in it may forbid everything below.
2. take out of the own merge what was retracted, and what another node counts.
3. offer the own part: others may wait for it.
4. publish a union that is committed.
5. fold again what nobody counts any more.
6. commit a new union when it is due. While a part stands in its own way (an obstacle), its owner is given time to
   remove it: what is published without that part is right, but smaller. Not longer than ``patience_seconds``: a node
   that is gone must not keep what was retracted in sight.
"""

from __future__ import annotations

from dataclasses import dataclass

from mergenode.ledger.union import Duties, Node, Selection
from mergenode.ledger.view import Policy
from mergenode.types import Digest, Head

PATIENCE_SECONDS = 30.0
"""How long a union waits for the owner of an obstacle."""


@dataclass(frozen=True, slots=True)
class Hear:
    """Check the newest part of this node and take it in."""

    node: Node


@dataclass(frozen=True, slots=True)
class Leave:
    """Take these out of the own merge: because they were retracted, or because they count elsewhere.

    Never both at once: each has facts of its own.
    """

    retract: tuple[Digest, ...] = ()
    yields: tuple[tuple[Digest, Node], ...] = ()


@dataclass(frozen=True, slots=True)
class Present:
    """Offer the own part to the others."""


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Fold this content again, which waited."""

    content: Digest


@dataclass(frozen=True, slots=True)
class Unite:
    """Add the counted parts up and commit the sum."""


@dataclass(frozen=True, slots=True)
class PublishUnion:
    """Make the committed union visible."""

    generation: int
    version: int


Step = Hear | Leave | Present | TakeBack | Unite | PublishUnion


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Everything the next step depends on, at one moment.

    ``news``: nodes of which something newer than known arrived. ``blocked``: contents that could not be taken out or
    folded again. ``own_changes``: contributions that came since the part was offered last; ``offer_now``: the part says
    something else that does not wait (or nothing was offered yet). ``head``: of the union; ``changed``: contents that
    came since; ``unite_now``: something left, or the sum is rounded otherwise. ``since_offer`` and ``since_publish``:
    seconds, None: never. ``obstructed_seconds``: how long there have been obstacles.
    """

    policy: Policy
    selection: Selection
    duties: Duties
    head: Head
    news: tuple[Node, ...] = ()
    blocked: frozenset[Digest] = frozenset()
    own_changes: int = 0
    offer_now: bool = False
    changed: int = 0
    unite_now: bool = False
    since_offer: float | None = None
    since_publish: float | None = None
    obstructed_seconds: float = 0.0
    once: bool = False


def next_step(now: Situation) -> Step | None:
    """The one thing to do now for the union; None when there is none."""
    if now.news:
        return Hear(now.news[0])
    leaving = _leave(now)
    if leaving is not None:
        return leaving
    if now.offer_now or _due(now.own_changes, now.since_offer, now):
        return Present()
    if now.head.generation > now.head.published_generation:
        return PublishUnion(now.head.generation, now.head.version + 1)
    for content in now.duties.take_back:
        if content not in now.blocked:
            return TakeBack(content)
    return Unite() if _unite_due(now) else None


def _leave(now: Situation) -> Leave | None:
    retract = tuple(content for content in now.duties.retract if content not in now.blocked)
    if retract:
        return Leave(retract=retract)
    yields = tuple((content, node) for content, node in now.duties.yields if content not in now.blocked)
    return Leave(yields=yields) if yields else None


def _unite_due(now: Situation) -> bool:
    if now.selection.lineage == now.head.lineage:
        return False
    if now.selection.obstacles and now.obstructed_seconds < PATIENCE_SECONDS:
        return False
    return now.unite_now or _due(now.changed, now.since_publish, now)


def _due(changes: int, seconds: float | None, now: Situation) -> bool:
    """Whether so many changes are worth an offer or a version: as the policy says of folds, see ``ledger.plan``."""
    if changes <= 0:
        return False
    every = now.policy.publish_every_seconds
    in_time = every is not None and (seconds is None or seconds >= every)
    return now.once or in_time or changes >= now.policy.publish_every_contributions
