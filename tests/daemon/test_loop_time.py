"""``--once`` and its patience, publishing by time, clocks that jump."""

from __future__ import annotations

import pytest

from mergenode.ledger.actions import Publish, Stop, Wait
from mergenode.ledger.view import Policy
from mergenode.types import Listing, Unsettled
from tests.support.fake_node import FakeNode
from tests.support.fake_ports import disk_full, unreadable


def once(node: FakeNode) -> Stop:
    node.once = True
    return node.start().run()


def test_once_folds_what_is_there_and_stops(node: FakeNode) -> None:
    node.put("a")
    node.put("b")
    assert once(node) == Stop("nothing is pending", complete=True)
    assert node.folded == ["a", "b"] and node.published[-1] == (2, 2)


def test_once_publishes_the_remainder() -> None:
    node = FakeNode(policy=Policy(publish_every_contributions=3))
    for name in "abcd":
        node.put(name)
    assert once(node).complete
    assert node.published == [(1, 3), (2, 4)]


def test_once_waits_for_what_settles(node: FakeNode) -> None:
    node.inbox.listing = Listing(unsettled=(Unsettled("inbox", "a", "still being written", 5.0),))
    node.once = True
    loop = node.start()
    node.lifecycle.during_wait = lambda: (
        node.put("a") and setattr(node.inbox, "listing", Listing(node.inbox.listing.candidates))
    )
    assert loop.run().complete and node.folded == ["a"]


@pytest.mark.parametrize("failing", ["fold", "append", "read", "stage", "list inbox"])
def test_once_gives_up_when_its_patience_is_spent(node: FakeNode, failing: str) -> None:
    node.put("a")
    node.put("b")
    node.once = True
    loop = node.start()
    node.trouble.any = lambda name: disk_full() if name == failing else None
    began = node.clock.monotonic()
    stop = loop.run()
    assert not stop.complete
    assert node.clock.monotonic() - began < 3 * node.policy.once_patience_seconds


def test_once_does_not_count_work_as_waiting(node: FakeNode) -> None:
    """A fold of two hours that fails at its end is tried again."""
    offered = node.put("a")
    node.once = True
    loop = node.start()
    node.engine.during = lambda candidate: node.clock.advance(7200)
    node.trouble.plan("fold done", unreadable())
    assert loop.run().complete
    assert node.folded == [offered.name]


def timed(seconds: float) -> FakeNode:
    return FakeNode(policy=Policy(publish_every_contributions=1 << 62, publish_every_seconds=seconds))


def test_published_by_time_the_first_version_comes_at_once() -> None:
    node = timed(60.0)
    loop = node.start()
    node.put("a")
    node.drain(loop)
    assert node.published == [(1, 1)]
    node.put("b")
    node.put("c")
    for _ in range(5):
        loop.act(loop.decide())
    assert node.published == [(1, 1)]
    node.clock.advance(60.0)
    node.drain(loop)
    assert node.published == [(1, 1), (2, 3)]


@pytest.mark.parametrize("jump", [-1e7, 1e7])
def test_a_jump_of_the_wall_clock_does_not_move_publishing(jump: float) -> None:
    node = timed(60.0)
    loop = node.start()
    node.put("a")
    node.drain(loop)
    node.clock.jump(jump)
    node.put("b")
    loop.act(Wait(0.05, "poked"))
    actions = [loop.decide()]
    while not isinstance(actions[-1], Publish):
        loop.act(actions[-1])
        actions.append(loop.decide())
        assert len(actions) < 100
    waited = sum(action.seconds for action in actions if isinstance(action, Wait))
    assert 59 < waited < 62


def test_after_a_restart_the_wall_clock_says_how_old_the_version_is() -> None:
    node = timed(60.0)
    node.put("a")
    node.drain(node.start())
    node.put("b")
    node.clock.advance(45.0)
    loop = node.start()
    began = node.clock.monotonic()
    node.drain(loop)
    assert node.published == [(1, 1), (2, 2)]
    assert 14 < node.clock.monotonic() - began < 17
    node.clock.jump(-1e6)
    node.put("c")
    began = node.clock.monotonic()
    node.drain(node.start())
    assert node.clock.monotonic() - began < 62, "a version from the future is as good as new"


def held(seconds: float) -> FakeNode:
    return FakeNode(policy=Policy(publish_hold_seconds=seconds, poll_seconds=10.0))


def until_published(node: FakeNode, version: int) -> float:
    """Seconds on the clock until it is; the loop goes on by itself."""
    loop, began = node.start(), node.clock.monotonic()
    while len(node.published) < version:
        loop.act(loop.decide())
        assert node.clock.monotonic() - began < 1000
    return node.clock.monotonic() - began


def test_a_fold_is_shown_before_its_version_and_nothing_is_folded_meanwhile() -> None:
    node = held(60.0)
    node.put("a")
    node.put("b")
    loop = node.start()
    seen = []
    node.lifecycle.during_wait = lambda: seen.append((list(node.folded), list(node.published)))
    node.drain(loop)
    assert node.published == [(1, 1), (2, 2)]
    assert {(tuple(folded), tuple(published)) for folded, published in seen} == {
        ((), ()), (("a",), ()), (("a", "b"), ((1, 1),)),
    }  # fmt: skip
    assert sum(1 for folded, _ in seen if folded == ["a"]) == 6, "sixty seconds in looks of ten"
    assert ("info", "generation 1 is shown for 60 s before a version holds it") in node.witness.messages


def test_what_is_retracted_while_it_is_held_was_never_published() -> None:
    node = held(60.0)
    node.put("a")
    node.drain(node.start())
    node.put("bad")
    loop, began = node.start(), node.clock.monotonic()
    node.lifecycle.during_wait = lambda: (
        node.retract("bad") if node.members == ["a", "bad"] and not node.changes.asked else None
    )
    node.drain(loop)
    assert node.published == [(1, 1), (2, 3)] and node.members == ["a"]
    assert node.clock.monotonic() - began == pytest.approx(60.0, abs=0.2), "a change does not begin another hold"


@pytest.mark.parametrize(("away", "left"), [(0.0, 60.0), (45.0, 15.0), (600.0, 0.0)])
def test_a_restart_goes_on_with_what_is_left_of_the_hold(away: float, left: float) -> None:
    node = held(60.0)
    node.put("a")
    loop = node.start()
    while not node.folded:
        loop.act(loop.decide())
    node.clock.advance(away)
    assert until_published(node, 1) == pytest.approx(left, abs=0.2)


@pytest.mark.parametrize("jump", [-1e7, 1e7])
def test_a_jump_of_the_wall_clock_does_not_shorten_or_lengthen_a_hold(jump: float) -> None:
    node = held(60.0)
    node.put("a")
    loop = node.start()
    while not node.folded:
        loop.act(loop.decide())
    began = node.clock.monotonic()
    node.clock.jump(jump)
    node.drain(loop)
    assert node.clock.monotonic() - began == pytest.approx(60.0, abs=0.2)


def test_a_stop_does_not_wait_for_the_hold() -> None:
    node = held(60.0)
    node.put("a")
    loop = node.start()
    while not node.folded:
        loop.act(loop.decide())
    node.lifecycle.request_stop()
    assert loop.decide() == Stop("asked to stop", complete=False)
    assert until_published(node, 1) == pytest.approx(60.0, abs=0.2)


def test_once_publishes_without_a_hold() -> None:
    node = held(6000.0)
    node.put("a")
    assert once(node).complete and node.published == [(1, 1)]
