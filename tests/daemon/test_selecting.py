"""A node whose selector chooses: what enters, leaves, waits, and when versions appear. The pool are vectors."""

from __future__ import annotations

from contextlib import suppress

import pytest

from mergenode.errors import RejectReason, TransientError, TransientReason
from mergenode.ledger.actions import Wait
from mergenode.ledger.records import Folded, Published, Selected
from mergenode.ledger.restatement import Replay
from mergenode.types import Listing, Unsettled
from tests.support.fake_node import FakeNode
from tests.support.fake_ports import Crash, rejection
from tests.support.quadratic_pool import QuadraticPool, SelectingNode

SHORT = (0.0, 1.0, 0.0)
EAST, NORTH, UP, WEST = (2.0, 0.0, 0.0), (0.0, 2.0, 0.0), (0.0, 0.0, 2.0), (-2.0, 0.0, 0.0)


def settled(**offers: tuple[float, ...]) -> SelectingNode:
    node = SelectingNode()
    for name, vector in offers.items():
        node.offer(name, vector)
    node.drain(node.start())
    return node


def test_only_what_serves_gets_weight() -> None:
    node = settled(east=EAST, north=NORTH, up=UP, west=WEST)
    assert set(node.weights) == {"east", "north"}
    assert node.weights == pytest.approx({"east": 0.5, "north": 0.5}, abs=0.02)
    assert node.distance < 1e-4
    assert [fact.kind for fact in node.facts() if fact.kind != "discovered"] == [
        "initialised", "selected", "folded", "folded", "published",
    ]  # fmt: skip


def test_a_better_one_shifts_the_weights_and_nothing_is_published_in_between() -> None:
    node = settled(east=EAST, short=SHORT)
    assert node.distance > 0.05
    node.offer("both", (1.0, 1.0, 0.0))
    loop = node.start()
    node.drain(loop)
    assert node.weights["both"] > 0.4
    assert node.distance < 1e-4
    kinds = [fact.kind for fact in node.facts()]
    assert kinds.count("selected") == 2
    after = kinds[kinds.index("published") + 1 :]
    assert after.count("published") == 1 and after[-1] == "published"
    assert after.index("selected") < after.index("deselected") < after.index("restated") < after.index("folded")


def test_what_is_in_the_merge_has_the_weights_of_the_newest_selection() -> None:
    node = settled(east=EAST, north=NORTH, up=UP)
    newest = node.facts("selected")[-1]
    assert isinstance(newest, Selected)
    assert {entry["name"]: entry["weight"] for entry in newest.target} == node.weights
    assert newest.counts == {"chosen": 2, "useless": 1}
    assert [entry["why"] for entry in newest.contents] == ["chosen", "chosen", "useless"]
    assert newest.contents[-1]["score"] > -newest.gap - 1e-9


def test_a_pool_that_did_not_change_is_not_selected_from_again() -> None:
    node = settled(east=EAST, north=NORTH, up=UP)
    node.drain(node.start())
    assert len(node.facts("selected")) == 1
    assert node.world.read.count("east") == 2, "a new process looks into the pool again"


def test_what_is_far_too_long_counts_as_shortened_and_is_folded_that_short() -> None:
    node = SelectingNode(longest=2.0)
    for name, vector in {"east": EAST, "north": NORTH, "up": UP, "far": (40.0, 40.0, 0.0)}.items():
        node.offer(name, vector)
    node.drain(node.start())
    assert node.distance < 1e-4
    newest = node.facts("selected")[-1]
    assert isinstance(newest, Selected)
    entries = {entry["name"]: entry for entry in newest.contents}
    factor = 4.0 / 40.0 / 2**0.5
    assert entries["far"]["factor"] == pytest.approx(factor) and entries["east"]["factor"] == 1.0
    assert node.weights["far"] == pytest.approx(entries["far"]["share"] * factor)


def test_a_copy_is_the_same_vertex() -> None:
    node = settled(east=EAST, north=NORTH)
    node.offer("again", EAST)
    node.drain(node.start())
    assert len(node.facts("selected")) == 1 and set(node.weights) == {"east", "north"}


def test_another_question_is_another_selection() -> None:
    node = settled(east=EAST, north=NORTH)
    node.asked, node.world.goal = "height", (0.0, 0.0, 1.0)
    node.offer("up", UP)
    node.drain(node.start())
    assert node.weights == {"up": pytest.approx(0.5, abs=0.02)}


def test_a_pool_of_nothing_useful_publishes_nothing() -> None:
    node = settled(west=WEST, up=UP)
    assert node.weights == {} and node.published == []
    assert len(node.facts("selected")) == 1


def test_who_leaves_the_registry_leaves_the_merge() -> None:
    node = settled(east=EAST, north=NORTH)
    node.withdraw("east")
    node.drain(node.start())
    assert set(node.weights) == {"north"} and len(node.published) == 2


def test_what_has_not_settled_again_after_a_restart_is_not_gone() -> None:
    node = settled(east=EAST, north=NORTH)
    whole = node.inbox.listing
    _, north = whole.candidates
    node.inbox.listing = Listing((north,), (Unsettled("inbox", "east", "waiting until it lies still", 5.0),))
    loop = node.start()
    node.drain_a_little(loop, 8)
    assert len(node.facts("selected")) == 1 and set(node.weights) == {"east", "north"}
    node.inbox.listing = whole
    node.drain(loop)
    assert len(node.facts("selected")) == 1


def test_a_file_that_never_lies_still_holds_no_selection_up_for_ever() -> None:
    node = settled(east=EAST, north=NORTH)
    north = node.inbox.listing.candidates[1]
    node.inbox.listing = Listing((north,), (Unsettled("inbox", "east", "waiting until it lies still", 5.0),))
    loop = node.start()
    node.drain_a_little(loop, 8)
    node.clock.advance(601.0)
    node.drain_a_little(loop, 8)
    assert set(node.weights) == {"north"}


def test_who_was_never_offered_is_not_waited_for() -> None:
    node = SelectingNode()
    node.offer("east", EAST)
    node.inbox.listing = Listing(node.inbox.listing.candidates, (Unsettled("inbox", "new", "still growing", 5.0),))
    node.drain_a_little(node.start(), 8)
    assert set(node.weights) == {"east"}


def test_a_retraction_is_published_before_anything_is_selected_again() -> None:
    node = settled(east=EAST, north=NORTH)
    node.retract("east", why="licence")
    loop = node.start()
    node.trouble.any = lambda name: task_failed() if name == "gradient" else None
    for _ in range(12):
        loop.act(loop.decide())
    assert set(node.weights) == {"north"} and len(node.published) == 2, "the plug-in is not asked for that"
    node.trouble.any = lambda name: None
    node.drain(loop)
    assert set(node.weights) == {"north"} and len(node.facts("selected")) == 2


def test_what_was_retracted_stays_out_under_any_name_until_it_is_asked_for() -> None:
    node = settled(east=EAST, north=NORTH)
    node.retract("east")
    loop = node.start()
    node.drain(loop)
    copy = node.offer("copy", EAST)
    node.drain(loop)
    assert node.rejected == {"copy": "retracted"} and set(node.weights) == {"north"}
    node.ask(copy)
    node.drain(loop)
    assert set(node.weights) == {"copy", "north"} or set(node.weights) == {"east", "north"}
    node.drain(node.start())
    assert len(node.weights) == 2 and node.asks.requests == []


def test_what_cannot_be_merged_is_rejected_and_the_others_are_chosen() -> None:
    node = SelectingNode()
    node.offer("odd", None)
    node.offer("east", EAST)
    node.drain(node.start())
    assert node.rejected == {"odd": "shape_mismatch"} and set(node.weights) == {"east"}


def test_what_a_fold_refuses_is_replaced_before_anything_is_published() -> None:
    node = SelectingNode()
    north = node.offer("north", NORTH)
    node.offer("east", EAST)
    node.offer("second", (0.0, 1.8, 0.0))
    node.disk.checkpoints[north.location].error = rejection()
    node.drain(node.start())
    assert node.rejected == {"north": "not_finite"} and set(node.weights) == {"east", "second"}
    assert len(node.published) == 1 and len(node.facts("selected")) == 2


def test_a_plug_in_that_fails_leaves_the_last_good_version_and_is_tried_again() -> None:
    node = settled(east=EAST)
    node.offer("north", NORTH)
    node.trouble.plan("gradient", *[task_failed()] * 3)
    loop = node.start()
    delays = []
    for _ in range(40):
        action = loop.decide()
        delays += [action.seconds] if isinstance(action, Wait) and "selection" in action.why else []
        assert len(node.published) <= 2
        loop.act(action)
    assert set(node.weights) == {"east", "north"}
    assert [retry[1] for retry in node.witness.retries] == ["task_failed"] * 3
    assert delays == sorted(delays) and len(delays) == 3


def test_what_cannot_be_read_now_is_left_out_for_now() -> None:
    node = SelectingNode()
    node.offer("east", EAST)
    north = node.offer("north", NORTH)
    loop = node.start()
    content = node.world.places[north.location]
    while not node.facts("selected"):
        action = loop.decide()
        if type(action).__name__ == "Select":
            node.world.places.pop(north.location, None)
        loop.act(action)
    assert set(node.facts("selected")[-1].weights["*"]) <= {node.world.places["/inbox/east/r1"]}  # type: ignore[attr-defined]
    node.world.places[north.location] = content
    for _ in range(30):
        loop.act(loop.decide())
    assert set(node.weights) == {"east", "north"}


def test_a_replaced_file_does_not_stand_in_the_way_of_its_leaving() -> None:
    """It could be subtracted only if it were there; what stays is folded again instead."""
    node = SelectingNode(world=QuadraticPool((0.7, 0.7, 0.4)))
    for name, vector in {"east": EAST, "north": NORTH, "up": UP}.items():
        node.offer(name, vector)
    loop = node.start()
    node.drain(loop)
    assert len(node.weights) == 3 and loop.selecting is not None
    node.trouble.plan("restate", rejection(RejectReason.GONE))
    loop.selecting.deselect((node.world.places["/inbox/east/r1"],))
    assert set(node.weights) == {"north", "up"}
    assert isinstance(node.restater.ways[-1], Replay)


def test_what_the_operator_named_is_read_as_he_named_it() -> None:
    """A download cache holds links; what a registry offers may hold none."""
    node = SelectingNode()
    node.offer("east", EAST, registry="ingest")
    node.offer("north", NORTH)
    loop = node.start()
    assert loop.selecting is not None
    loop.selecting.named = frozenset({"ingest"})
    node.drain(loop)
    forced = {name: [c.forced for c in node.world.asked_for if c.name == name] for name in ("east", "north")}
    assert set(node.weights) == {"east", "north"} and all(forced["east"]) and not any(forced["north"])


def test_a_request_puts_a_candidate_into_the_pool() -> None:
    node = settled(east=EAST)
    asked = node.offer("north", NORTH)
    node.inbox.listing = type(node.inbox.listing)(node.inbox.listing.candidates)
    node.ask(asked)
    node.drain(node.start())
    assert set(node.weights) == {"east", "north"} and node.asks.requests == []


def test_a_node_that_folded_everything_becomes_one_that_chooses() -> None:
    node = SelectingNode()
    for name, vector in {"east": EAST, "north": NORTH, "west": WEST}.items():
        node.offer(name, vector)
    loop = FakeNode.start(node)
    for _ in range(20):
        loop.act(loop.decide())
    assert set(node.weights) == {"east", "north", "west"}
    node.drain(node.start())
    assert set(node.weights) == {"east", "north"}
    versions = [fact for fact in node.facts("published") if isinstance(fact, Published)]
    assert versions[-1].generation == node.ledger.head().generation


WORK = ["index", "gradient", "scores", "losses", "append", "append done", "restate", "restate done", "fold", "install"]


@pytest.mark.parametrize("name", [*WORK, "install done", "export", "rename done", "latest"])
def test_killed_in_the_middle_it_ends_the_same(name: str) -> None:
    undisturbed, killed = settled(east=EAST, short=SHORT), settled(east=EAST, short=SHORT)
    for node in (undisturbed, killed):
        node.offer("both", (1.0, 1.0, 0.0))
        node.offer("up", UP)
    undisturbed.drain(undisturbed.start())
    for number in range(4):  # the first of its kind, the second ...
        killed.trouble.plans.clear()
        killed.trouble.plan(name, *[None] * number, Crash(name))
        with suppress(Crash):
            killed.drain(killed.start())
            assert number, "nothing of this name is done"
    killed.trouble.plans.clear()
    killed.drain(killed.start())
    assert killed.weights == undisturbed.weights
    assert [fact for fact in killed.facts("folded") if isinstance(fact, Folded)][-1].lineage == undisturbed.facts(
        "folded"
    )[-1].lineage  # type: ignore[attr-defined]


def task_failed() -> TransientError:
    return TransientError(TransientReason.TASK_FAILED, "task plug-in: loss raised ZeroDivisionError")
