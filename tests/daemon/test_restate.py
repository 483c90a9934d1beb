"""Contributions leave the merge: by the real loop over fake ports."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mergenode.ledger.records import Published, Restated, Retracted
from mergenode.ledger.restatement import Replay, Subtract
from mergenode.ledger.view import Policy
from tests.support.fake_node import FakeNode
from tests.support.fake_ports import Checkpoint, Crash, digest_of, disk_full


def started(**options: object) -> FakeNode:
    """A node that folded and published a, b, c and d, one after the other."""
    node = FakeNode(**options)  # type: ignore[arg-type]  # any field
    for name in "abcd":
        node.put(name)
        node.drain(node.start())
    return node


def statistics(*contents: str) -> str:
    """Those of a node that folded these and nothing else."""
    found: object = None
    for name in contents:
        found = digest_of(f"{found} {digest_of(f'{name} r1')}")
    return str(found)


def lineage_of(names: str) -> object:
    node = FakeNode()
    for name in names:
        node.put(name)
        node.drain(node.start())
    return node.ledger.head().lineage


def test_a_retracted_contribution_is_out_and_stays_out_though_it_is_still_listed() -> None:
    node = started()
    node.retract("b", why="withdrawn by its team")
    node.drain(node.start())
    assert node.members == ["a", "c", "d"]
    head = node.ledger.head()
    assert (head.count, head.generation, head.version) == (3, 5, 5)
    assert node.published[-1] == (5, 5)
    (fact,) = node.facts("retracted")
    assert isinstance(fact, Retracted)
    assert (fact.name, fact.why) == ("b", "withdrawn by its team")
    assert node.changes.asked == []
    node.drain(node.start())
    assert node.members == ["a", "c", "d"]
    assert node.ledger.verify() == []


def test_a_method_that_subtracts_reads_only_what_leaves() -> None:
    node = started()
    node.retract("b")
    node.drain(node.start())
    (way,) = node.restater.ways
    assert isinstance(way, Subtract)
    assert [candidate.name for candidate in way.removed] == ["b"]
    (fact,) = node.facts("restated")
    assert isinstance(fact, Restated)
    assert fact.how == "subtracted"


def test_a_method_that_cannot_subtract_is_as_if_it_had_never_folded_it() -> None:
    node = started(retractable=False)
    node.retract("b")
    node.drain(node.start())
    head = node.ledger.head()
    assert head.statistics == statistics("a", "c", "d")
    assert head.lineage == lineage_of("acd")
    node.put("e")
    node.drain(node.start())
    assert node.ledger.head().statistics == statistics("a", "c", "d", "e")
    assert node.ledger.head().lineage == lineage_of("acde")


def test_a_replay_starts_from_the_newest_snapshot_that_serves() -> None:
    node = started(retractable=False, snapshots=(1, 2))
    assert sorted(node.disk.generations) == [2, 3, 4]
    node.retract("d")
    node.drain(node.start())
    (way,) = node.restater.ways
    assert isinstance(way, Replay)
    assert (way.start.generation, way.folded) == (3, ())
    assert node.ledger.head().statistics == statistics("a", "b", "c")


def test_the_manifest_lists_what_is_left_and_no_more() -> None:
    node = started()
    node.retract("b")
    node.drain(node.start())
    manifest = node.line_publisher().visible(5)
    assert manifest is not None
    assert [entry["name"] for entry in manifest["contributions"]] == ["a", "c", "d"]
    assert manifest["count"] == 3


def test_everything_may_leave_and_the_next_contribution_starts_afresh() -> None:
    node = started()
    node.retract("a", "b", "c", "d")
    node.drain(node.start())
    head = node.ledger.head()
    assert (node.members, head.count, head.lineage) == ([], 0, None)
    assert node.published[-1] == (5, 5)
    node.put("e")
    node.drain(node.start())
    assert node.members == ["e"]


def test_what_was_retracted_comes_back_when_it_is_asked_for() -> None:
    node = started()
    node.retract("b")
    node.drain(node.start())
    node.ask(next(found for found in node.inbox.listing.candidates if found.name == "b"))
    node.drain(node.start())
    assert node.members == ["a", "c", "d", "b"]


def test_its_content_is_refused_under_any_other_name() -> None:
    node = started()
    node.retract("b")
    node.drain(node.start())
    node.put("copy-of-b", checkpoint=Checkpoint(digest_of("b r1")))
    node.put("promised-b", checkpoint=Checkpoint(digest_of("b r1")), content=digest_of("b r1"))
    node.drain(node.start())
    assert node.rejected == {"copy-of-b": "retracted", "promised-b": "retracted"}
    assert node.members == ["a", "c", "d"]


def test_what_cannot_be_taken_out_is_answered_and_the_node_goes_on() -> None:
    node = started(retractable=False)
    change = node.retract("a")
    del node.disk.checkpoints["/inbox/c/r1"]
    node.put("e")
    node.drain(node.start())
    assert "'c' would have to be folded again" in node.changes.refusals[change.id]
    assert node.members == ["a", "b", "c", "d", "e"]
    assert node.facts("retracted", "restated") == []


def test_a_replaced_contribution_is_not_taken_for_the_one_that_was_folded() -> None:
    node = started()
    change = node.retract("b")
    node.disk.checkpoints["/inbox/b/r1"] = Checkpoint(digest_of("something else"))
    node.drain(node.start())
    assert "was replaced" in node.changes.refusals[change.id]
    assert node.members == ["a", "b", "c", "d"]


def test_a_rollback_takes_out_all_that_came_after_the_version() -> None:
    node = started()
    node.roll_back(2)
    node.drain(node.start())
    assert node.members == ["a", "b"]
    assert node.ledger.head().statistics == statistics("a", "b")
    assert node.ledger.head().lineage == lineage_of("ab")
    (fact,) = node.facts("restated")
    assert isinstance(fact, Restated)
    assert (fact.rollback_to, fact.how) == (2, "replayed")
    assert node.published[-1] == (5, 5), "going back is a new version"


def test_a_rollback_to_what_is_there_already_changes_nothing() -> None:
    node = started()
    node.roll_back(4)
    node.drain(node.start())
    assert node.facts("restated") == []
    assert node.changes.asked == []
    assert node.changes.refusals == {}


def test_a_rollback_never_brings_back_what_was_retracted() -> None:
    node = started()
    node.retract("a")
    node.drain(node.start())
    change = node.roll_back(2)
    node.drain(node.start())
    assert "retracted since" in node.changes.refusals[change.id]
    assert node.members == ["b", "c", "d"]


def test_a_rollback_to_a_version_that_never_was_is_refused() -> None:
    node = started()
    change = node.roll_back(9)
    node.drain(node.start())
    assert node.changes.refusals[change.id] == "there is no version 9"


def test_a_change_is_published_at_once_whatever_the_policy_says() -> None:
    node = started()
    node.policy = Policy(publish_every_contributions=100)
    node.retract("d")
    node.drain(node.start())
    newest = node.facts("published")[-1]
    assert isinstance(newest, Published)
    assert newest.generation == 5


def test_a_full_disk_is_waited_for() -> None:
    node = started()
    node.retract("b")
    node.trouble.plan("restate", disk_full(), disk_full())
    node.drain(node.start())
    assert node.members == ["a", "c", "d"]


def steps_of_a_change(make: Callable[[], FakeNode], ask: Callable[[FakeNode], object]) -> list[str]:
    node = make()
    ask(node)
    node.trouble.asked.clear()
    node.drain(node.start())
    return list(node.trouble.asked)


CHANGES: dict[str, tuple[dict[str, object], Callable[[FakeNode], object]]] = {
    "subtract": ({}, lambda node: node.retract("b")),
    "replay": ({"retractable": False}, lambda node: node.retract("b", "c")),
    "rollback": ({"retractable": False, "snapshots": (1, 3)}, lambda node: node.roll_back(2)),
    "everything": ({}, lambda node: node.retract("a", "b", "c", "d")),
}


@pytest.mark.parametrize("case", CHANGES)
def test_killed_at_every_step_it_ends_as_if_it_had_not_been(case: str) -> None:
    options, ask = CHANGES[case]
    undisturbed = started(**options)
    ask(undisturbed)
    undisturbed.drain(undisturbed.start())
    steps = steps_of_a_change(lambda: started(**options), ask)
    assert {"restate", "install", "append", "changes done", "export", "latest"} <= set(steps)
    for place in range(len(steps)):
        node = started(**options)
        ask(node)
        seen = [0]

        def killer(name: str, place: int = place, seen: list[int] = seen) -> BaseException | None:
            seen[0] += 1
            return Crash() if seen[0] == place + 1 else None

        node.trouble.any = killer
        with pytest.raises(Crash):
            node.drain(node.start())
        node.trouble.any = lambda name: None
        node.drain(node.start())
        assert node.members == undisturbed.members, steps[place]
        assert node.ledger.head() == undisturbed.ledger.head(), steps[place]
        assert node.disk.versions == undisturbed.disk.versions, steps[place]
        assert node.disk.generations == undisturbed.disk.generations, steps[place]
        assert node.changes.asked == []
        assert node.changes.refusals == {}
        assert len(node.facts("restated")) == 1
        assert node.ledger.verify() == []
