"""What the loop remembers stays small, and a look costs what is new."""

from __future__ import annotations

from mergenode.ledger.records import Folded, Rejected
from mergenode.types import Listing
from tests.support.fake_node import FakeNode, candidate
from tests.support.fake_ports import Checkpoint, digest_of, rejection


class CountingLedger:
    """How many keys each look asks about."""

    def __init__(self, node: FakeNode) -> None:
        self.asked = 0
        inner = node.ledger.outcomes

        def outcomes(keys):
            keys = list(keys)
            self.asked += len(keys)
            return inner(keys)

        node.ledger.outcomes = outcomes  # type: ignore[method-assign]  # counted


def test_settled_entries_are_asked_about_once(node: FakeNode) -> None:
    loop = node.start()
    for number in range(30):
        node.put(f"m{number}")
    node.drain(loop)
    counting = CountingLedger(node)
    for _ in range(20):
        node.drain(loop)
    assert counting.asked == 0
    node.put("new")
    node.drain(loop)
    assert counting.asked == 1


def test_settled_entries_leave_the_plan(node: FakeNode) -> None:
    loop = node.start()
    for number in range(10):
        node.put(f"m{number}")
    node.put("bad", checkpoint=Checkpoint(digest_of("x"), error=rejection()))
    node.drain(loop)
    node.drain(loop)
    view = loop.view()
    assert all(listing == Listing() for listing in view.listings.values())
    assert view.order == {} and view.contents == {}


def test_remembered_outcomes_carry_no_reports(node: FakeNode) -> None:
    loop = node.start()
    node.put("a")
    node.put("bad", checkpoint=Checkpoint(digest_of("x"), error=rejection()))
    node.drain(loop)
    kept = {fact.name: fact for fact in loop.seen.outcomes.values()}
    assert isinstance(kept["a"], Folded) and kept["a"].groups == () and kept["a"].totals == {}
    assert isinstance(kept["bad"], Rejected) and kept["bad"].message == ""
    assert len(node.facts("rejected")[0].message) > 0, "the ledger keeps everything"


def test_what_is_not_listed_any_more_is_forgotten(node: FakeNode) -> None:
    loop = node.start()
    for number in range(10):
        node.put(f"m{number}", content=digest_of(f"m{number} r1"))
    node.drain(loop)
    node.inbox.listing = Listing((candidate("m3"),))
    node.drain(loop)
    assert set(loop.seen.outcomes) == {("inbox", "m3", "r1")}
    assert len(loop.seen._folded_as) <= 1


def test_what_comes_back_is_remembered_by_the_ledger(node: FakeNode) -> None:
    loop = node.start()
    node.put("a")
    node.drain(loop)
    listing, node.inbox.listing = node.inbox.listing, Listing()
    node.drain(loop)
    node.inbox.listing = listing
    node.drain(loop)
    assert node.engine.folds == ["a"] and len(node.facts("discovered")) == 1


def test_pending_is_told_per_registry(node: FakeNode) -> None:
    loop = node.start()
    node.put("a")
    node.put("b")
    loop.decide()
    assert node.witness.pending == {"inbox": 2, "ingest": 0}
    node.drain(loop)
    node.drain(loop)
    assert node.witness.pending == {"inbox": 0, "ingest": 0}
