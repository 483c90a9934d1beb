"""A node whose pool has a limit: who leaves, who stays, and that kills and a failing plug-in change nothing of that."""

from __future__ import annotations

import pytest

from mergenode.daemon.evicting import evicted_since
from mergenode.errors import TransientError, TransientReason
from mergenode.ledger.actions import Evict, Select, Stop, Wait
from mergenode.ledger.records import Rejected
from mergenode.types import Digest
from tests.support import facts
from tests.support.fake_ports import Crash
from tests.support.memory_ledger import MemoryLedger
from tests.support.quadratic_pool import QuadraticPool, SelectingNode

GOAL = (1.0, 1.0, 1.0)
WORLD = {
    "east": (2.0, 0.0, 2.0), "north": (0.0, 2.0, 0.0),
    "near1": (-2.5, 0.50, -2.5), "near2": (-2.5, 0.51, -2.5), "near3": (-2.5, 0.52, -2.5),
    "niche": (-3.0, -3.0, 1.0),
}  # fmt: skip
"""Half of east and half of north are the goal, so nobody else has weight; by itself niche is the best at the third
coordinate, and the worst at the others."""


def offered(limit: int | None = 4, **more: tuple[float, ...]) -> SelectingNode:
    node = SelectingNode(world=QuadraticPool(GOAL), limit=limit)
    for name, vector in {**WORLD, **more}.items():
        node.offer(name, vector)
    return node


def settled(limit: int | None = 4, **more: tuple[float, ...]) -> SelectingNode:
    node = offered(limit, **more)
    node.drain(node.start())
    return node


def pool_of(node: SelectingNode) -> set[str]:
    """Names of what can be chosen, by the facts."""
    listed = {candidate.key: candidate.name for candidate in node.inbox.listing.candidates}
    outcomes = node.ledger.outcomes(list(listed))
    return {name for key, name in listed.items() if not isinstance(outcomes[key], Rejected)}


def content_of(node: SelectingNode, name: str) -> Digest:
    return next(
        node.world.places[found.location] for found in node.inbox.listing.candidates if found.name == name
    )  # fmt: skip


def evictions(node: SelectingNode) -> list[Rejected]:
    return [fact for fact in node.facts("rejected") if isinstance(fact, Rejected) and fact.reason == "evicted"]


def test_of_those_that_do_the_same_some_leave_and_who_is_alone_with_its_skill_stays() -> None:
    node = settled()
    assert set(node.weights) == {"east", "north"}
    assert pool_of(node) == {"east", "north", "niche"} | ({"near1", "near2", "near3"} & pool_of(node))
    assert len(pool_of(node)) == 4 and set(node.rejected.values()) == {"evicted"}
    first, second = evictions(node)
    assert first.content == content_of(node, first.name) and first.hint
    for fact, size in ((first, 6), (second, 5)):
        assert f"holds {size} contents and its limit is 4" in fact.message and f"of {size}" in fact.message
        assert "share is 0." in fact.message and "of 3 samples" in fact.message
    assert MemoryLedger.verify(node.ledger) == []


def test_each_content_is_evaluated_once_and_only_where_there_are_too_many() -> None:
    node = settled(limit=6)
    assert node.world.evaluated == [] and evictions(node) == []
    node.limit = 5
    node.drain(node.start())
    assert sorted(node.world.evaluated) == sorted(node.world.vectors) and len(evictions(node)) == 1
    node.offer("late", (-2.5, 0.53, -2.5))
    node.drain(node.start())
    assert len(node.world.evaluated) == 7 and len(evictions(node)) == 2


def test_another_question_evaluates_anew() -> None:
    node = settled(limit=5)
    node.asked = "height"
    node.offer("late", (-2.5, 0.53, -2.5))
    node.drain(node.start())
    assert len(node.world.evaluated) == 6 + 6


def test_a_lower_limit_and_an_eviction_are_no_reason_to_select_again() -> None:
    node = settled(limit=None)
    node.limit = 3
    for _ in range(2):
        node.drain(node.start())
    assert len(node.facts("selected")) == 1 and pool_of(node) == {"east", "north", "niche"}
    assert len(node.published) == 1


def test_a_newcomer_gets_its_chance_before_anybody_leaves() -> None:
    node = SelectingNode(world=QuadraticPool(GOAL), limit=3)
    for name, vector in {"east": WORLD["east"], "west1": (-2.5, -0.5, -2.5), "west2": (-2.5, -0.6, -2.5)}.items():
        node.offer(name, vector)
    node.drain(node.start())
    node.offer("steep", (-3.0, 9.0, -3.0))
    node.drain(node.start())
    assert set(node.weights) == {"east", "steep"} and "steep" in pool_of(node), "by itself it is the worst of all"
    assert len(node.rejected) == 1 and set(node.rejected) < {"west1", "west2"}


def test_who_has_weight_stays_however_low_the_limit() -> None:
    node = settled(limit=1)
    assert pool_of(node) == set(node.weights) == {"east", "north"}
    node.once = True
    assert node.start().run() == Stop("nothing is pending")


def test_all_copies_of_a_content_leave_and_none_of_another() -> None:
    node = offered(limit=None, again=WORLD["near1"])
    node.drain(node.start())
    node.limit = 3
    node.drain(node.start())
    assert set(node.rejected) == {"near1", "near2", "near3", "again"}


def test_it_is_back_when_it_is_asked_for_and_judged_by_those_that_are_there_then() -> None:
    node = settled(limit=5)
    (gone,) = evictions(node)
    asked = next(found for found in node.inbox.listing.candidates if found.name == gone.name)
    node.ask(asked)
    node.drain(node.start())
    assert len(evictions(node)) == 2 and len(pool_of(node)) == 5, "they still do what it does"
    other = next(name for name in ("near1", "near2", "near3") if name != gone.name and name in pool_of(node))
    node.withdraw(other)
    node.ask(asked)
    node.drain(node.start())
    assert gone.name in pool_of(node) and node.asks.requests == []
    node.drain(node.start())
    assert gone.name in pool_of(node) and MemoryLedger.verify(node.ledger) == []


def test_without_a_selector_what_was_evicted_is_not_folded() -> None:
    node = settled()
    loop = super(SelectingNode, node).start()
    for _ in range(30):
        loop.act(loop.decide())
    assert set(node.weights) == pool_of(node) and len(node.weights) == 4


def test_a_plug_in_that_fails_holds_up_nothing_else_and_is_tried_again() -> None:
    node = offered()
    node.trouble.plan("alone", *[task_failed()] * 3)
    loop = node.start()
    delays, selected_after = [], 0
    for _ in range(60):
        action = loop.decide()
        if isinstance(action, Wait) and "limit" in action.why:
            delays.append(action.seconds)
            if len(delays) == 2:
                node.offer("both", (1.0, 1.0, 1.0))
        selected_after += isinstance(action, Select) and bool(delays)
        loop.act(action)
    assert delays == sorted(delays) and len(delays) >= 3 and selected_after == 1
    assert [retry[1] for retry in node.witness.retries] == ["task_failed"] * 3
    assert len(pool_of(node)) == 4


def test_with_once_a_plug_in_that_goes_on_failing_is_left_with_the_version_in_place() -> None:
    node = offered()
    node.once = True
    node.trouble.any = lambda name: task_failed() if name == "alone" else None
    stop = node.start().run()
    assert not stop.complete and "above its limit" in stop.why
    assert len(node.published) == 1 and node.rejected == {}


def test_who_always_fails_holds_up_no_other_evaluation() -> None:
    node = offered()
    poison = content_of(node, "niche")
    compute = node.world.losses_alone

    def losses_alone(content: Digest) -> object:
        if content == poison:
            raise task_failed()
        return compute(content)

    node.world.losses_alone = losses_alone  # type: ignore[method-assign]
    loop = node.start()
    for _ in range(60):
        loop.act(loop.decide())
    assert len(set(node.world.evaluated)) == 5 and evictions(node) == []
    assert loop.selecting is not None
    with pytest.raises(TransientError, match="niche by itself: task plug-in"):
        loop.selecting.evict(loop.seen, {})


def test_who_cannot_be_read_now_is_left_out_for_now() -> None:
    node = offered()
    loop = node.start()
    places = dict(node.world.places)
    left_out = 0
    for _ in range(80):
        action = loop.decide()
        if isinstance(action, Evict) and not left_out:
            node.world.places = {place: c for place, c in places.items() if c != content_of(node, "niche")}
            left_out = 1
        loop.act(action)
    assert any(retry[:2] == ("niche", "vanished") for retry in node.witness.retries)


def test_a_record_that_is_lost_is_made_again() -> None:
    node = offered()
    loop = node.start()
    while len(node.world.evaluated) < 6:
        loop.act(loop.decide())
    node.world.alone.popitem()
    node.drain(loop)
    assert len(node.world.evaluated) == 7 and len(pool_of(node)) == 4


def test_nothing_is_evicted_while_a_registry_has_not_answered() -> None:
    node = settled(limit=6)
    node.limit = 3
    node.trouble.any = lambda name: (
        TransientError(TransientReason.REGISTRY_UNREACHABLE, "away") if name.startswith("list") else None
    )
    loop = node.start()
    for _ in range(10):
        loop.act(loop.decide())
    assert evictions(node) == [] and node.world.evaluated == []


WORK = ["alone", "alone done", "append", "append done", "index", "gradient", "fold", "install done", "latest"]


@pytest.mark.parametrize("name", WORK)
def test_killed_in_the_middle_it_ends_the_same(name: str) -> None:
    undisturbed, killed = settled(), offered()
    killed.trouble.plans.clear()
    for number in range(40):  # the first of its kind, the second ...
        killed.trouble.plans.clear()
        killed.trouble.plan(name, *[None] * number, Crash(name))
        try:
            killed.drain(killed.start())
        except Crash:
            continue
        assert number, "nothing of this name is done"
        break
    killed.trouble.plans.clear()
    killed.drain(killed.start())
    assert killed.weights == undisturbed.weights and killed.rejected == undisturbed.rejected
    assert pool_of(killed) == pool_of(undisturbed)
    assert len(evictions(killed)) == 2 and len(killed.facts("selected")) == 1
    assert MemoryLedger.verify(killed.ledger) == []


def test_evictions_are_found_however_many_refusals_came_after_the_selection() -> None:
    ledger = MemoryLedger()
    ledger.append(facts.initialised())
    ledger.append(facts.rejected(1, reason="evicted", content=facts.digest(1)))
    last = ledger.append(facts.selected(m1=0.5))
    ledger.append(facts.rejected(2, reason="evicted", content=facts.digest(2)))
    for number in range(3, 103):
        ledger.append(facts.rejected(number))
    assert evicted_since(ledger, last) == {facts.digest(2)}
    assert evicted_since(ledger, 0) == {facts.digest(1), facts.digest(2)}


def task_failed() -> TransientError:
    return TransientError(TransientReason.TASK_FAILED, "task plug-in: loss raised ZeroDivisionError")
