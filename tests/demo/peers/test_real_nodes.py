"""The chapters of the demo on real processes, with fewer nodes and rounds: judged by ledgers and published files."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from mergenode.demo.peers.fashion import Fashion
from mergenode.demo.peers.play import play_ring, play_sum
from mergenode.demo.peers.results import PeersResults
from mergenode.demo.peers.ring_story import Script
from mergenode.demo.report import Report

pytestmark = pytest.mark.slow


@pytest.fixture
def report() -> Report:
    return Report(Console(file=io.StringIO(), width=120))


def test_a_ring_goes_through_a_kill_and_a_partition(tmp_path: Path, report: Report) -> None:
    results = PeersResults()
    script = Script(before=1, away=1, back=1, apart=1, after=4, victim=1, island=(2,))
    play_ring(tmp_path / "ring", report, results, nodes=3, script=script)
    assert results.exit_codes == [0, 0, 0]
    assert [event.what for event in results.events] == ["node-2 killed", "node-3 cut off"]
    assert results.cut_connections > 0
    last = results.last()
    assert [each.node for each in last] == ["node-1", "node-2", "node-3"]
    assert all(each.epoch >= 5 and each.mixed > 0.7 for each in last)
    healed = results.events[1].end
    for node in ("node-1", "node-2", "node-3"):
        own = [each for each in results.mixings if each.node == node]
        assert [each.epoch for each in own] == sorted({each.epoch for each in own})
        assert max((each.heard for each in own if each.when > healed), default=0) == 2


def test_a_union_ends_with_one_model(tmp_path: Path, few: Fashion, report: Report) -> None:
    results = PeersResults()
    play_sum(tmp_path / "union", few, report, results)
    assert results.exit_codes == [0, 0, 0]
    assert len(results.digests) == 3
    assert len(set(results.digests.values())) == 1
    assert results.union_accuracy is not None
    assert results.union_accuracy > min(results.contribution_accuracies) - 0.05
