"""The order in which a node of a union does things, and when it waits."""

from __future__ import annotations

from dataclasses import replace

from mergenode.ledger.union import Duties, Obstacle, Selection, select
from mergenode.ledger.union_plan import (
    PATIENCE_SECONDS,
    Hear,
    Leave,
    Present,
    PublishUnion,
    Situation,
    TakeBack,
    Unite,
    next_step,
)
from mergenode.ledger.view import Policy
from mergenode.types import Head
from tests.ledger.test_union import ONE, THREE, TWO, A, B, part, state

SOME = select(state(part(A, ONE), part(B, TWO)), idempotent=False)
BUSY = Situation(
    policy=Policy(), selection=SOME, duties=Duties((ONE,), ((TWO, A),), (THREE,)), head=Head(generation=1, version=0),
    news=(B,), own_changes=1, changed=2,
)  # fmt: skip


def test_the_order_is_the_contract() -> None:
    now = BUSY
    assert next_step(now) == Hear(B)
    now = replace(now, news=())
    assert next_step(now) == Leave(retract=(ONE,))
    now = replace(now, duties=Duties((), ((TWO, A),), (THREE,)))
    assert next_step(now) == Leave(yields=((TWO, A),))
    now = replace(now, duties=Duties((), (), (THREE,)))
    assert next_step(now) == Present()
    now = replace(now, own_changes=0)
    assert next_step(now) == PublishUnion(1, 1)
    now = replace(now, head=Head(generation=1, version=1, published_generation=1))
    assert next_step(now) == TakeBack(THREE)
    now = replace(now, duties=Duties())
    assert next_step(now) == Unite()
    assert next_step(replace(now, head=replace(now.head, lineage=SOME.lineage))) is None


def test_what_could_not_be_done_stands_in_nobodys_way() -> None:
    now = replace(BUSY, news=(), own_changes=0, head=Head(), blocked=frozenset({ONE, TWO, THREE}))
    assert next_step(now) == Unite()


def test_an_obstacle_is_waited_for_and_not_for_ever() -> None:
    selection = Selection(SOME.parts, SOME.owners, {}, (Obstacle(B, ONE),))
    now = Situation(policy=Policy(), selection=selection, duties=Duties(), head=Head(), changed=1)
    assert next_step(now) is None
    assert next_step(replace(now, obstructed_seconds=PATIENCE_SECONDS)) == Unite()


def test_offers_and_unions_follow_the_policy() -> None:
    rare = Policy(publish_every_contributions=3, publish_every_seconds=60.0)
    now = Situation(policy=rare, selection=SOME, duties=Duties(), head=Head(), own_changes=2, since_offer=1.0)
    assert next_step(now) is None
    assert next_step(replace(now, own_changes=3)) == Present()
    assert next_step(replace(now, since_offer=60.0)) == Present()
    assert next_step(replace(now, offer_now=True)) == Present()
    now = replace(now, own_changes=0, changed=2, since_publish=1.0)
    assert next_step(now) is None
    for due in ({"changed": 3}, {"since_publish": 61.0}, {"unite_now": True}, {"once": True}):
        assert next_step(replace(now, **due)) == Unite()  # type: ignore[arg-type]  # any field
