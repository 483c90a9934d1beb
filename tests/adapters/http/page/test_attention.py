"""What the first lines of the page say, and what they leave out."""

from __future__ import annotations

from typing import Any

from mergenode.adapters.http.page.attention import BAD, LOOK, headline, matters
from mergenode.adapters.http.page.recent import read_recent
from mergenode.adapters.peers.membership.document import peers_document
from mergenode.types import Listing
from tests.support import facts
from tests.support.memory_ledger import MemoryLedger
from tests.support.observed import TIME
from tests.support.peer_snapshot import row, snapshot
from tests.support.status_node import LIMIT, Node


def told(node: Node, *recorded: Any, peers: Any = None) -> tuple[tuple[str, str], list[tuple[str, str]]]:
    ledger = MemoryLedger()
    ledger.append(facts.initialised(), *recorded)
    live = node.live.snapshot()
    found = matters(read_recent(ledger), live, peers, LIMIT)
    assert all(matter.next for matter in found), "everything says what to do next"
    return headline(found, live), [(matter.level, matter.what) for matter in found]


def test_all_is_well(ready: Node) -> None:
    ready.live.sizes(statistics_bytes=1, published_bytes=1, disk_free_bytes=9)
    assert told(ready, facts.folded(1), facts.published(1)) == (("good", "All is well"), [])


def test_starting_and_stopping(node: Node, ready: Node) -> None:
    assert told(Node())[0] == (LOOK, "Starting")
    ready.live.drain()
    assert told(ready)[0] == (LOOK, "Stopping")


def test_what_does_not_work_comes_first(ready: Node) -> None:
    ready.live.listing_failed("bucket", "timeout")
    ready.live.retrying("m1", "disk_full", "no space left", 8.0)
    first, found = told(ready, facts.quarantined(3), facts.rejected(2))
    assert first == (BAD, "Something is wrong")
    assert found == [
        (BAD, "m1 is tried again after 8 s: no space left"),
        (BAD, "registry bucket: timeout"),
        (LOOK, "1 contribution is in quarantine"),
        (LOOK, "1 contribution was rejected within a day, last m2: not_finite"),
    ]


def test_a_stalled_loop_is_bad(ready: Node) -> None:
    ready.clock.advance(LIMIT + 1)
    first, found = told(ready)
    assert first[0] == BAD and found[0][1].startswith("the loop last turned 101 s ago")


def test_a_registry_that_did_not_answer_yet(node: Node) -> None:
    node.live.state_loaded()
    node.live.listed("inbox", Listing(), 0)
    assert told(node)[1] == [(LOOK, "registry bucket has not answered yet")]


def test_rejections_of_earlier_days_are_history(ready: Node) -> None:
    assert told(ready, facts.rejected(1, time="2026-01-01T03:04:04Z"))[1] == []
    assert len(told(ready, facts.rejected(1, time="2026-01-01T03:04:06Z"))[1]) == 1
    assert TIME == "2026-01-02T03:04:05Z"


def test_little_room_is_told_before_it_is_used_up(ready: Node) -> None:
    ready.live.sizes(statistics_bytes=10 << 30, published_bytes=1, disk_free_bytes=19 << 30)
    assert told(ready)[1] == [(LOOK, "19.0 GiB free; the statistics alone have 10.0 GiB")]


def test_neighbours_that_do_not_answer(ready: Node) -> None:
    found = told(ready, peers=peers_document(snapshot()))[1]
    assert [what for _, what in found] == [
        "1 of 2 neighbours do not answer: node-3:50051 (suspect)", "1 node is not listened to"
    ]  # fmt: skip
    document = peers_document(snapshot(row(snapshot().peers[0].peer.node_id))) | {"bans": []}
    assert told(ready, peers=document)[1] == []
