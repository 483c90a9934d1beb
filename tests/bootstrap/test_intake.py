"""What is pushed is folded by the real loop, with the statistics that the same files in a directory give."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from mergenode.adapters.clock import SystemClock
from mergenode.adapters.observers.fan_out import FanOut
from mergenode.adapters.peers.pushing.local_model import describe_model
from mergenode.adapters.registries.pushes import REGISTRY
from mergenode.adapters.store.change_requests import FolderChangeRequests
from mergenode.adapters.store.sqlite_ledger import open_reader
from mergenode.bootstrap.intake import NodeIntake, open_intake
from mergenode.bootstrap.parts import build_parts, open_state, start
from mergenode.bootstrap.policy import policy_of
from mergenode.daemon.lifecycle import Lifecycle
from mergenode.daemon.loop import Loop
from mergenode.ledger.records import Folded
from mergenode.settings import load_settings
from tests.support.checkpoints import lora_tensors, write_adapter, write_single
from tests.support.intake import FakeCaller, Intake
from tests.support.real_node import RealNode


@contextmanager
def running(node: RealNode) -> Iterator[tuple[Intake, Loop, NodeIntake]]:
    """The loop of a node with an intake, and the intake served on loopback."""
    settings, clock = load_settings(node.config), SystemClock()
    lifecycle = Lifecycle(clock, drain_seconds=1)
    with closing(lifecycle), open_state(settings) as ledger:
        parts = build_parts(settings, ledger, FanOut([]), lifecycle, clock)
        start(parts)
        with closing(open_reader(node.state / "ledger.sqlite")) as reader:
            opened = open_intake(
                settings, base=parts.base, reader=reader, clock=clock, poke=lifecycle.poke,
                caller_of=lambda context: FakeCaller("team-a"),
            )  # fmt: skip
            loop = Loop(
                line=parts.line, registries={REGISTRY: opened.registry}, changes=FolderChangeRequests(node.state),
                policy=policy_of(settings), lifecycle=lifecycle, jitter=lambda: 0.0, once=True,
            )  # fmt: skip
            with closing(opened), Intake(opened.service._uploads) as intake:
                yield intake, loop, opened


def test_pushed_contributions_are_folded_like_files_in_a_directory(tmp_path: Path) -> None:
    node, twin = RealNode(tmp_path / "pushed"), RealNode(tmp_path / "listed")
    adapter = write_adapter(tmp_path / "lora", lora_tensors())
    full = write_single(tmp_path / "full", node.tuned(5))
    with running(node) as (intake, loop, _):
        for path in (adapter, full):
            with describe_model(path) as model:
                pushing = intake.pushing(model, path.name)
                report = pushing.push()
                assert (report.outcome, report.folded) == ("accepted", False)
                loop.run()
                report = pushing.wait(report)
                assert report.folded and report.share_kept is not None and 0 < report.share_kept <= 1
    for path in (adapter, full):
        path.rename(twin.inbox / path.name)
        twin.run_once()
    ours, theirs = ([fact for fact in each.facts("folded") if isinstance(fact, Folded)] for each in (node, twin))
    assert [fact.content for fact in ours] == [fact.content for fact in theirs]
    assert [fact.statistics for fact in ours] == [fact.statistics for fact in theirs]
    assert [fact.lineage for fact in ours] == [fact.lineage for fact in theirs]
    assert {fact.registry for fact in ours} == {REGISTRY}


def test_what_the_fold_rejects_is_told_and_its_files_go(tmp_path: Path) -> None:
    node = RealNode(tmp_path / "node")
    same = write_single(tmp_path / "untouched", node.tensors)
    with running(node) as (intake, loop, opened):
        with describe_model(same) as model:
            pushing = intake.pushing(model, "untouched")
            report = pushing.push()
            loop.run()
            report = pushing.wait(report)
        assert (report.outcome, report.reason) == ("rejected", "empty_delta")
        assert list(opened.registry.root.iterdir()) == []
        assert (report.outcome, intake.push(same, "untouched").outcome) == ("rejected", "rejected")
    with running(node) as (intake, _, _):
        assert intake.push(same, "untouched").reason == "empty_delta", "the answer survives a restart"


def test_a_duplicate_of_what_a_directory_brought_is_not_kept(tmp_path: Path) -> None:
    node = RealNode(tmp_path / "node")
    put = node.put("listed", 7)
    node.run_once()
    with running(node) as (intake, _, opened):
        report = intake.push(put, "again")
        assert (report.outcome, report.folded) == ("duplicate", True)
        assert "listed" in report.message and report.share_kept is not None
        assert list(opened.registry.root.iterdir()) == []
