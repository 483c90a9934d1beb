"""The loop: order of arrival, failures that wait, what stops a node and what does not."""

from __future__ import annotations

import pytest

from mergenode.errors import FatalError, TransientError, TransientReason
from mergenode.ledger.actions import Fold, Publish, Stop, Wait
from mergenode.types import Listing, Refused, Unsettled
from tests.support.fake_node import FakeNode
from tests.support.fake_ports import Checkpoint, digest_of, disk_full, rejection, unreadable


def away() -> TransientError:
    return TransientError(TransientReason.REGISTRY_UNREACHABLE, "/inbox: not mounted")


def test_what_arrived_first_is_folded_first_whatever_its_name(node: FakeNode) -> None:
    loop = node.start()
    node.put("z")
    node.drain(loop)
    node.put("b")
    node.put("a")
    node.drain(loop)
    assert node.folded == ["z", "a", "b"], "seen in one look, they are ordered by name"
    assert node.published == [(1, 1), (2, 2), (3, 3)]


def test_order_of_arrival_outlives_the_process(node: FakeNode) -> None:
    loop = node.start()
    node.put("z")
    loop.act(loop.decide())
    assert node.facts("discovered") and not node.folded
    node.put("a")
    node.drain(node.start())
    assert node.folded == ["z", "a"]


def test_a_second_look_changes_nothing(node: FakeNode) -> None:
    loop = node.start()
    node.put("a")
    node.put("bad", checkpoint=Checkpoint(digest_of("x"), error=rejection()))
    node.drain(loop)
    before = len(node.ledger.entries)
    for _ in range(5):
        node.drain(loop)
        node.drain(node.start())
    assert len(node.ledger.entries) == before
    assert node.engine.folds == []


def test_replaced_under_the_same_name_it_is_another_contribution(node: FakeNode) -> None:
    loop = node.start()
    node.put("a")
    node.drain(loop)
    node.put("a", "r2")
    node.drain(loop)
    assert node.folded == ["a", "a"] and node.ledger.head().count == 2


def test_touched_but_equal_it_is_a_duplicate(node: FakeNode) -> None:
    loop = node.start()
    node.put("a", checkpoint=Checkpoint(digest_of("x")))
    node.drain(loop)
    node.put("a", "r2", checkpoint=Checkpoint(digest_of("x")))
    node.drain(loop)
    assert node.folded == ["a"]
    assert [fact.kind for fact in node.facts("duplicate")] == ["duplicate"]


def test_promised_content_that_is_in_the_merge_is_not_read(node: FakeNode) -> None:
    loop = node.start()
    node.put("a", checkpoint=Checkpoint(digest_of("x")))
    node.drain(loop)
    node.put("b", content=digest_of("x"))
    node.drain(loop)
    assert node.engine.folds == ["a"] and len(node.facts("duplicate")) == 1


def test_two_promises_of_one_content_fold_once(node: FakeNode) -> None:
    loop = node.start()
    for name in ("a", "b"):
        node.put(name, content=digest_of("x"), checkpoint=Checkpoint(digest_of("x")))
    node.drain(loop)
    assert node.engine.folds == ["a"] and len(node.facts("duplicate")) == 1


def test_what_fails_for_now_waits_longer_each_time_and_blocks_nobody(node: FakeNode) -> None:
    loop = node.start()
    node.put("a")
    node.put("b")
    node.trouble.plan("fold", unreadable(), None, *[unreadable()] * 4)
    node.drain(loop)
    assert node.folded == ["b", "a"]
    delays = [delay for subject, reason, delay in node.witness.retries if subject == "a"]
    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0]


def test_a_full_disk_makes_the_whole_node_wait_so_that_order_stays(node: FakeNode) -> None:
    loop = node.start()
    node.put("a")
    node.put("b")
    node.trouble.plan("fold", disk_full(), disk_full())
    node.drain(loop)
    assert node.folded == ["a", "b"]
    assert [delay for _, reason, delay in node.witness.retries if reason == "disk_full"] == [0.5, 1.0]
    assert max(node.lifecycle.waits) <= node.policy.poll_seconds


@pytest.mark.parametrize("failing", ["fold", "stage", "append", "install", "list inbox"])
@pytest.mark.parametrize("hours", [0.1, 3, 48])
def test_once_there_is_space_a_node_goes_on_soon_however_long_the_disk_was_full(
    node: FakeNode, failing: str, hours: float
) -> None:
    loop = node.start()
    node.put("a")
    node.trouble.any = lambda name: disk_full() if name == failing else None
    while node.clock.monotonic() < hours * 3600:
        loop.act(loop.decide())
    assert node.folded == [] or node.published == []
    node.trouble.any = lambda name: None
    freed = node.clock.monotonic()
    while not node.published:
        loop.act(loop.decide())
        assert node.clock.monotonic() - freed <= 30 + node.policy.poll_seconds
    assert node.folded == ["a"]


def test_a_full_disk_is_written_to_no_more_than_twice_a_minute(node: FakeNode) -> None:
    loop = node.start()
    node.put("a")
    node.trouble.any = lambda name: disk_full() if name == "fold" else None
    while node.clock.monotonic() < 3600:
        loop.act(loop.decide())
    assert len(node.witness.retries) <= 3600 / 15 + 5, "between half of the longest pause and all of it"


def test_a_full_disk_while_publishing_keeps_folds_behind_it(node: FakeNode) -> None:
    loop = node.start()
    node.put("a")
    node.put("b")
    node.trouble.plan("stage", disk_full(), disk_full())
    node.drain(loop)
    assert node.published == [(1, 1), (2, 2)], "the versions are those of an undisturbed node"


def test_a_poisonous_contribution_is_reported_and_the_others_are_folded(node: FakeNode) -> None:
    loop = node.start()
    node.put("a", checkpoint=Checkpoint(digest_of("x"), error=ZeroDivisionError("boom\nboom")))
    node.put("b")
    for _ in range(20):
        loop.act(loop.decide())
    assert node.folded == ["b"]
    level, text = node.witness.messages[0]
    assert level == "error" and "a: unexpected ZeroDivisionError" in text
    assert node.witness.retries[0][:2] == ("a", "unexpected")
    node.disk.checkpoints["/inbox/a/r1"].error = None
    node.drain(loop)
    assert node.folded == ["b", "a"], "what was mended is folded without a restart"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("torch"), RecursionError(), OSError(5, "I/O error")])
def test_no_exception_of_one_contribution_ends_the_node(node: FakeNode, error: Exception) -> None:
    loop = node.start()
    node.put("a", checkpoint=Checkpoint(digest_of("x"), error=error))
    for _ in range(10):
        action = loop.decide()
        assert not isinstance(action, Stop)
        loop.act(action)


def test_what_the_operator_must_mend_ends_the_node(node: FakeNode) -> None:
    loop = node.start()
    node.put("a", checkpoint=Checkpoint(digest_of("x"), error=FatalError("statistics damaged", hint="restore")))
    with pytest.raises(FatalError, match="damaged"):
        node.drain(loop)


def test_a_registry_that_is_away_keeps_what_it_showed(node: FakeNode) -> None:
    loop = node.start()
    node.put("a")
    node.put("b")
    loop.act(loop.decide())
    node.trouble.plan("list inbox", *[away()] * 5)
    node.clock.advance(60)
    while node.folded != ["a", "b"]:
        loop.act(loop.decide())
    assert "inbox" in loop.seen.unreachable and node.witness.failures
    for _ in range(10):
        loop.act(loop.decide())
    assert loop.seen.unreachable == set()
    assert node.folded == ["a", "b"]


def test_a_defect_in_a_registry_is_told_and_survived(node: FakeNode) -> None:
    loop = node.start()
    node.put("a")
    node.trouble.plan("list inbox", ZeroDivisionError("boom"))
    node.trouble.plan("list ingest", None)
    loop.act(loop.decide())
    assert node.witness.failures == ["inbox"]
    assert ("error", "registry inbox: unexpected ZeroDivisionError: boom") in node.witness.messages
    node.drain(loop)
    assert node.folded == ["a"]


def test_refused_entries_are_recorded_once(node: FakeNode) -> None:
    loop = node.start()
    entry = Refused("inbox", "link", "refused:1", "path_unsafe", "link: leads out", "copy it")
    node.inbox.listing = Listing(refused=(entry,))
    for _ in range(3):
        node.drain(loop)
    node.drain(node.start())
    assert node.rejected == {"link": "path_unsafe"} and len(node.facts("rejected")) == 1


def test_requests_come_first_and_are_answered(node: FakeNode) -> None:
    loop = node.start()
    node.put("a")
    node.ask(node.put("z"))
    node.drain(loop)
    assert node.folded == ["z", "a"]
    assert node.asks.requests == []


def test_a_request_takes_a_rejected_contribution_up_again(node: FakeNode) -> None:
    loop = node.start()
    offered = node.put("a", checkpoint=Checkpoint(digest_of("x"), error=rejection()))
    node.drain(loop)
    node.disk.checkpoints[offered.location].error = None
    node.drain(loop)
    assert node.folded == []
    node.ask(offered)
    node.drain(loop)
    assert node.folded == ["a"] and node.asks.requests == []


def test_a_request_that_is_rejected_again_is_answered_once(node: FakeNode) -> None:
    loop = node.start()
    offered = node.put("a", checkpoint=Checkpoint(digest_of("x"), error=rejection()))
    node.ask(offered)
    node.drain(loop)
    assert len(node.facts("rejected")) == 1 and node.asks.requests == []
    node.ask(offered)
    node.drain(loop)
    assert len(node.facts("rejected")) == 2 and node.engine.folds == ["a", "a"]


def test_a_request_for_what_is_in_the_merge_is_dropped(node: FakeNode) -> None:
    loop = node.start()
    offered = node.put("a")
    node.drain(loop)
    node.ask(offered)
    node.drain(loop)
    assert node.asks.requests == [] and node.engine.folds == ["a"]


@pytest.mark.parametrize("failing", ["folded", "rejected"])
def test_a_request_that_cannot_be_removed_does_not_make_the_ledger_grow(node: FakeNode, failing: str) -> None:
    loop = node.start()
    error = rejection() if failing == "rejected" else None
    node.ask(node.put("a", checkpoint=Checkpoint(digest_of("x"), error=error)))
    node.trouble.any = lambda name: disk_full() if name == "settled" else None
    for _ in range(60):
        loop.act(loop.decide())
    assert len(node.facts(failing)) <= 6 + node.clock.monotonic() / 15, "after a growing delay, never in a spin"
    node.trouble.any = lambda name: None
    node.drain(loop)
    assert node.asks.requests == []


def test_a_ledger_that_cannot_be_read_is_waited_for(node: FakeNode) -> None:
    loop = node.start()
    node.put("a")
    node.trouble.plan("read", *[unreadable()] * 3)
    node.drain(loop)
    assert node.folded == ["a"]
    assert [reason for subject, reason, _ in node.witness.retries if subject == "ledger"] == ["read_failed"] * 3


def test_a_ledger_that_stays_unreadable_does_not_hold_up_a_stop(node: FakeNode) -> None:
    loop = node.start()
    node.trouble.any = lambda name: unreadable() if name == "read" else None
    assert isinstance(loop.decide(), Wait)
    loop.lifecycle.request_stop()
    action = loop.decide()
    assert isinstance(action, Stop) and not action.complete


@pytest.mark.parametrize("durable", ["append", "append done"])
def test_a_write_that_seemed_to_fail_is_looked_up(node: FakeNode, durable: str) -> None:
    loop = node.start()
    node.put("a")
    node.put("b")
    node.trouble.plan(durable, disk_full(), disk_full(), disk_full(), disk_full())
    node.drain(loop)
    assert sorted(node.folded) == ["a", "b"] and node.facts("duplicate") == []
    assert len(node.facts("discovered")) == 2
    assert node.ledger.verify() == []


def test_asked_to_stop_nothing_new_is_begun(node: FakeNode) -> None:
    loop = node.start()
    node.put("a")
    node.put("b")

    def stop_during(candidate) -> None:
        loop.lifecycle.request_stop()

    node.engine.during = stop_during
    stop = loop.run()
    assert node.folded == ["a"] and node.published == []
    assert not stop.complete and stop.why == "asked to stop"


def test_asked_twice_the_fold_is_put_down_and_taken_up_again(node: FakeNode) -> None:
    loop = node.start()
    node.put("a")

    def stop_twice(candidate) -> None:
        loop.lifecycle.request_stop()
        loop.lifecycle.request_stop()

    node.engine.during = stop_twice
    assert loop.run() == Stop("asked to stop", complete=False)
    assert node.folded == [] and ("info", "fold of a put down") in node.witness.messages
    node.drain(node.start())
    assert node.folded == ["a"] and node.published == [(1, 1)]


def test_a_stop_with_nothing_left_is_complete(node: FakeNode) -> None:
    loop = node.start()
    node.put("a")
    node.drain(loop)
    loop.lifecycle.request_stop()
    assert loop.run() == Stop("asked to stop", complete=True)


def test_a_wait_ends_in_a_new_look(node: FakeNode) -> None:
    """What settles in two seconds is not left lying until the next poll."""
    loop = node.start()
    node.inbox.listing = Listing(unsettled=(Unsettled("inbox", "a", "still being written", 2.0),))
    action = loop.decide()
    assert isinstance(action, Wait) and action.seconds == 2.0
    node.inbox.listing = Listing()
    node.put("a")
    began = node.clock.monotonic()
    loop.act(action)
    while not node.folded:
        loop.act(loop.decide())
    assert node.folded == ["a"]
    assert node.clock.monotonic() - began < node.policy.poll_seconds


def test_between_looks_no_registry_is_asked(node: FakeNode) -> None:
    loop = node.start()
    for number in range(10):
        node.put(f"m{number}")
    node.drain(loop)
    assert node.inbox.asked <= 3


def test_sizes_are_told(node: FakeNode) -> None:
    loop = node.start()
    node.put("a")
    node.drain(loop)
    node.drain(loop)
    assert node.witness.measured[-1] == (100, 10, 1000)


def test_decisions_follow_the_plan(node: FakeNode) -> None:
    loop = node.start()
    node.put("a")
    kinds = []
    for _ in range(4):
        kinds.append(type(action := loop.decide()).__name__)
        loop.act(action)
    assert kinds == ["Discover", Fold.__name__, Publish.__name__, "Wait"]
