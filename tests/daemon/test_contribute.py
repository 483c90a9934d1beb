"""One contribution: every outcome, the order of the durable steps, and what a kill between two of them leaves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mergenode.daemon.contribute import contribute, make_visible, prune, publish
from mergenode.daemon.refusing import judge, judge_promise
from mergenode.errors import FatalError, RejectedError, RejectReason, TransientError
from mergenode.ledger.chain import lineage
from mergenode.ledger.records import Duplicate, Folded, Pruned, Rejected
from mergenode.types import Candidate, FoldResult, GroupReport, Kind
from tests.support.fake_node import FakeNode, candidate, origin
from tests.support.fake_ports import Checkpoint, Crash, digest_of, disk_full, rejection, unreadable

A, B = digest_of("a"), digest_of("b")


def result(*, content=A, norm: float = 1.0, relative: float = 0.1, whole: float = 0.1) -> FoldResult:
    groups = (GroupReport("*", 10, whole, whole, 1.0, 1.0),)
    return FoldResult(content, Kind.FULL, B, {}, norm, relative, groups)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (result(), None),
        (result(relative=0.95), None),
        (result(relative=0.951), RejectReason.OTHER_BASE),
        (result(relative=10.0), RejectReason.OTHER_BASE),
        (result(relative=10.1), RejectReason.NORM_TOO_LARGE),
        (result(whole=10.1), RejectReason.NORM_TOO_LARGE),
        (result(relative=float("nan")), RejectReason.NORM_TOO_LARGE),
        (result(norm=float("inf")), RejectReason.NORM_TOO_LARGE),
        (result(norm=0.0), RejectReason.EMPTY_DELTA),
    ],
)
def test_judged_by_norms(found: FoldResult, reason: RejectReason | None) -> None:
    offered = candidate("x")
    if reason is None:
        judge(offered, found, 0.95)
        return
    with pytest.raises(RejectedError) as caught:
        judge(offered, found, 0.95)
    assert caught.value.reason is reason
    assert "x" in caught.value.message and caught.value.hint


@pytest.mark.parametrize(
    ("relative", "weight", "reason", "hint"),
    [
        (20.0, 100.0, RejectReason.NORM_TOO_LARGE, "Give it a smaller weight: without one it is 0.2 times as large."),
        (2000.0, 100.0, RejectReason.NORM_TOO_LARGE, "The training run diverged"),
        (2.0, 10.0, RejectReason.OTHER_BASE, "Give it a smaller weight: without one they differ by 0.20."),
        (2.0, 2.0, RejectReason.OTHER_BASE, "Check that it was fine-tuned from this base"),
        (2.0, 0.5, RejectReason.OTHER_BASE, "Check that it was fine-tuned from this base"),
    ],
)
def test_a_weight_that_makes_an_update_too_large_is_named(
    relative: float, weight: float, reason: RejectReason, hint: str
) -> None:
    with pytest.raises(RejectedError) as caught:
        judge(candidate("x", weight=weight), result(relative=relative), 0.95)
    assert caught.value.reason is reason and caught.value.hint.startswith(hint)
    assert (f"at its weight of {weight:g}" in caught.value.message) == (weight > 1)


def test_without_a_limit_any_finite_norm_passes() -> None:
    judge(candidate("x"), result(relative=1e9, whole=1e9), float("inf"))
    with pytest.raises(RejectedError):
        judge(candidate("x"), result(relative=float("nan")), float("inf"))


def test_a_limit_above_the_bound_of_divergence_is_believed() -> None:
    judge(candidate("x"), result(relative=15.0, whole=15.0), 20.0)
    with pytest.raises(RejectedError):
        judge(candidate("x"), result(relative=21.0), 20.0)


def test_a_base_of_zeros_has_no_relative_norm() -> None:
    zeros = FoldResult(A, Kind.FULL, B, {}, 1.0, 0.0, (GroupReport("*", 1, 1.0, 1.0, 1.0, 0.0),))
    judge(candidate("x"), zeros, 0.95)


def test_another_content_than_promised_is_refused_before_all_else() -> None:
    with pytest.raises(RejectedError) as caught:
        judge(candidate("x", content=B), result(norm=0.0), 0.95)
    assert caught.value.reason is RejectReason.DIGEST_MISMATCH
    assert A in caught.value.message and B in caught.value.message


def test_a_promise_of_another_base_is_refused_before_anything_is_read() -> None:
    judge_promise(candidate("x"), A)
    judge_promise(candidate("x", base=A), A)
    with pytest.raises(RejectedError) as caught:
        judge_promise(candidate("x", base=B), A)
    assert caught.value.reason is RejectReason.OTHER_BASE
    assert A in caught.value.message and B in caught.value.message


def test_folded(node: FakeNode) -> None:
    loop = node.start()
    fact = contribute(loop.line, node.put("a", weight=0.5))
    assert isinstance(fact, Folded)
    assert (fact.generation, fact.count, fact.weight, fact.name) == (1, 1, 0.5, "a")
    assert fact.lineage == lineage(
        None, base=origin().base, method="opcm", options={"alpha": 0.5}, content=fact.content, weight=0.5
    )
    assert node.disk.generations == {1: fact.statistics}
    again = contribute(loop.line, node.put("b"))
    assert isinstance(again, Folded) and (again.generation, again.count) == (2, 2)
    assert node.disk.generations == {2: again.statistics}
    assert node.ledger.verify() == []


def test_the_same_content_under_another_name_is_a_duplicate(node: FakeNode) -> None:
    loop = node.start()
    contribute(loop.line, node.put("a", checkpoint=Checkpoint(A)))
    fact = contribute(loop.line, node.put("b", checkpoint=Checkpoint(A)))
    assert isinstance(fact, Duplicate) and (fact.same_as, fact.content) == ("a", A)
    assert node.disk.folding is None
    assert node.folded == ["a"]


def test_a_duplicate_is_told_before_it_is_judged(node: FakeNode) -> None:
    """A limit that was lowered since does not make a rejection of what is in the merge."""
    loop = node.start()
    contribute(loop.line, node.put("a", checkpoint=Checkpoint(A)))
    fact = contribute(loop.line, node.put("b", checkpoint=Checkpoint(A, relative=5.0)))
    assert isinstance(fact, Duplicate)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (Checkpoint(A, error=rejection()), "not_finite"),
        (Checkpoint(A, norm=0.0), "empty_delta"),
        (Checkpoint(A, relative=1.4), "other_base"),
        (Checkpoint(A, relative=1e6), "norm_too_large"),
    ],
)
def test_rejected_leaves_the_merge_as_it_was(node: FakeNode, found: Checkpoint, reason: str) -> None:
    loop = node.start()
    contribute(loop.line, node.put("good"))
    before = dict(node.disk.generations)
    fact = contribute(loop.line, node.put("bad", checkpoint=found))
    assert isinstance(fact, Rejected) and fact.reason == reason and fact.message
    assert node.disk.generations == before and node.disk.folding is None


def test_transient_failures_record_nothing(node: FakeNode) -> None:
    loop = node.start()
    offered = node.put("a")
    node.trouble.plan("fold", unreadable())
    with pytest.raises(TransientError):
        contribute(loop.line, offered)
    assert node.facts() == [origin()]


def test_files_come_before_the_fact_that_names_them(node: FakeNode) -> None:
    loop = node.start()
    contribute(loop.line, node.put("a"))
    node.trouble.asked.clear()
    contribute(loop.line, node.put("b"))
    steps = [step for step in node.trouble.asked if step in ("fold done", "install done", "append", "retire")]
    assert steps == ["fold done", "install done", "append", "retire"]


def test_shards_of_a_rejected_contribution_go_before_the_fact(node: FakeNode) -> None:
    loop = node.start()
    node.trouble.asked.clear()
    contribute(loop.line, node.put("bad", checkpoint=Checkpoint(A, norm=0.0)))
    assert node.trouble.asked.index("discard") < node.trouble.asked.index("append")


@pytest.mark.parametrize("step", ["retire", "discard"])
def test_a_failed_removal_never_repeats_the_outcome(node: FakeNode, step: str) -> None:
    loop = node.start()
    contribute(loop.line, node.put("first"))
    node.trouble.plan(step, disk_full())
    checkpoint = Checkpoint(A, norm=1.0 if step == "retire" else 0.0)
    fact = contribute(loop.line, node.put("a", checkpoint=checkpoint))
    assert fact.kind == ("folded" if step == "retire" else "rejected")
    assert any("no space left" in text for _, text in node.witness.messages)
    contribute(loop.line, node.put("next"))
    assert list(node.disk.generations) == [node.ledger.head().generation]


CRASHES = ["fold", "fold done", "install", "install done", "append", "append done", "retire", "retire done"]


@pytest.mark.parametrize("step", CRASHES)
def test_killed_at_every_step_it_is_folded_once(node: FakeNode, step: str) -> None:
    loop = node.start()
    node.put("first")
    node.drain(loop)
    offered = node.put("a")
    node.trouble.plan(step, Crash())
    with pytest.raises(Crash):
        contribute(loop.line, offered)
    node.drain(node.start())
    assert node.folded == ["first", "a"]
    assert node.published == [(1, 1), (2, 2)]
    assert list(node.disk.generations) == [2]
    assert node.ledger.verify() == []


def folded_once(node: FakeNode):
    loop = node.start()
    contribute(loop.line, node.put("a"))
    return loop.line


def test_publish_makes_the_committed_merge_visible(node: FakeNode) -> None:
    line = folded_once(node)
    fact = publish(line, 1, 1)
    manifest = line.publisher.visible(1)
    assert manifest is not None
    assert manifest["lineage"] == node.ledger.head().lineage
    assert [entry["name"] for entry in manifest["contributions"]] == ["a"]
    assert (fact.version, fact.generation, fact.digest) == (1, 1, line.publisher.digest(1))
    assert node.disk.latest == 1


def test_publish_refuses_what_is_not_committed(node: FakeNode) -> None:
    line = folded_once(node)
    with pytest.raises(FatalError, match=r"generation 2, but generation 1 is committed"):
        publish(line, 2, 1)


PUBLISH_STEPS = ["stage", "export", "export done", "rename", "rename done", "latest", "latest done", "append"]


@pytest.mark.parametrize("step", [*PUBLISH_STEPS, "append done", "prune"])
def test_killed_at_every_step_of_publishing_the_version_is_the_same(node: FakeNode, step: str) -> None:
    undisturbed = FakeNode()
    publish(folded_once(undisturbed), 1, 1)
    line = folded_once(node)
    node.trouble.plan(step, Crash())
    with pytest.raises(Crash):
        publish(line, 1, 1)
    node.drain(node.start())
    assert node.published == [(1, 1)]
    assert node.disk.versions == undisturbed.disk.versions
    assert node.disk.latest == 1


def test_a_version_in_place_is_completed_not_made_again(node: FakeNode) -> None:
    line = folded_once(node)
    node.trouble.plan("latest", Crash())
    with pytest.raises(Crash):
        publish(line, 1, 1)
    node.trouble.asked.clear()
    node.drain(node.start())
    assert "export" not in node.trouble.asked
    assert node.published == [(1, 1)]


def test_a_strangers_version_stops_before_any_work(node: FakeNode) -> None:
    line = folded_once(node)
    node.disk.versions[1] = b'{"lineage": "of somebody else"}'
    node.trouble.asked.clear()
    with pytest.raises(FatalError, match="in the way"):
        publish(line, 1, 1)
    assert "export" not in node.trouble.asked
    assert node.published == []


def test_make_visible_leaves_latest_alone(node: FakeNode) -> None:
    line = folded_once(node)
    make_visible(line, node.ledger.head(), 1)
    assert 1 in node.disk.versions and node.disk.latest is None


def with_versions(node: FakeNode, count: int):
    loop = node.start()
    for number in range(count):
        node.put(f"m{number}")
        node.drain(loop)
    return loop.line


def test_retention_records_what_it_removed(node: FakeNode) -> None:
    with_versions(node, 5)
    assert sorted(node.disk.versions) == [3, 4, 5]
    assert [fact.versions for fact in node.facts("pruned") if isinstance(fact, Pruned)] == [(1,), (2,)]


def test_retention_that_fails_half_way_is_recorded_as_far_as_it_came(node: FakeNode) -> None:
    line = replace(with_versions(node, 3), keep=1)
    node.trouble.plan("prune done", disk_full())
    with pytest.raises(TransientError):
        prune(line)
    assert [version.version for version in node.ledger.versions()] == [2, 3]
    prune(line)
    assert [version.version for version in node.ledger.versions()] == [3]


def test_a_failed_removal_does_not_undo_a_publish(node: FakeNode) -> None:
    line = with_versions(node, 3)
    contribute(line, node.put("last"))
    node.trouble.plan("prune", disk_full())
    assert publish(line, 4, 4).version == 4
    assert node.published[-1] == (4, 4)


def test_what_others_removed_is_recorded_at_the_next_publish(node: FakeNode) -> None:
    line = with_versions(node, 3)
    del node.disk.versions[2]
    contribute(line, node.put("last"))
    publish(line, 4, 4)
    assert [version.version for version in node.ledger.versions()] == [1, 3, 4] == sorted(node.disk.versions)
    assert node.ledger.verify() == []


def test_without_a_first_fact_nothing_is_committed(node: FakeNode) -> None:
    line = node.line()
    with pytest.raises(FatalError, match="no first fact"):
        contribute(line, node.put("a"))


def test_candidates_that_promise_their_content_are_held_to_it(node: FakeNode) -> None:
    loop = node.start()
    offered = node.put("a", checkpoint=Checkpoint(A), content=B)
    assert isinstance(offered, Candidate)
    fact = contribute(loop.line, offered)
    assert isinstance(fact, Rejected) and fact.reason == "digest_mismatch"
