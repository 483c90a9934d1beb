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
