"""How far folds, replays and exports are, and what is left of them on disk when their process is gone."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from mergenode.adapters.engines.local import shards
from mergenode.adapters.engines.local.restate import LocalRestater
from mergenode.adapters.engines.local.unfinished import unfinished_work
from mergenode.ledger.restatement import Replay
from mergenode.ports.engine import Stopped
from mergenode.ports.observer import Progress
from mergenode.types import Candidate, Head
from tests.adapters.engines.local.test_restate import candidates, node_with, world
from tests.support.heard import Heard
from tests.support.local_node import LocalNode

SHARD_BYTES = 2000
"""Two shards of the world's tensors, so that there is something to take over."""


def bytes_of(words: list[Progress]) -> list[tuple[int, int]]:
    return [(word.bytes_done, word.free_bytes) for word in words]


class Dies(Heard):
    """Its first word of a second tensor is the last thing that the process does."""

    def progress(self, progress: Progress) -> None:
        if progress.tensors_done == 2 and not progress.over:
            raise Stopped("killed")


def stopped_half_way(node: LocalNode, path: Path) -> None:
    """A fold that ends in its second shard."""
    with pytest.raises(Stopped):
        node.engine.fold(Candidate("inbox", path.name, "1", str(path)), node.head, Dies())


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", SHARD_BYTES)


@pytest.mark.parametrize("method", ["opcm", "task_arithmetic", "ties", "fisher"])
def test_a_fold_is_told_from_nothing_to_all_whatever_the_method_keeps(tmp_path: Path, method: str) -> None:
    base, models = world(tmp_path, count=1)
    node, heard = LocalNode(tmp_path / "node", base, method), Heard()
    if node.engine.method.needs:
        pytest.skip("side-cars have tests of their own")
    node.engine.fold(Candidate("inbox", "m", "1", str(models[0])), node.head, heard)
    words = heard.of("fold")
    assert [word.tensors_done for word in words] == [0, 1, 2, 3, 4, 4]
    assert words[-1].bytes_done == words[-1].bytes_total and words[-1].over
    assert all(first.bytes_done < second.bytes_done for first, second in pairwise(words[:-1]))


def test_a_fold_that_is_taken_up_says_what_was_there(tmp_path: Path, described: None) -> None:
    base, models = world(tmp_path, count=1)
    node, heard = LocalNode(tmp_path / "node", base, "opcm"), Heard()
    stopped_half_way(node, models[0])
    node.engine.fold(Candidate("inbox", models[0].name, "1", str(models[0])), node.head, heard)
    words = heard.of("fold")
    assert words[0].bytes_done == 0 and words[-1].bytes_done == words[-1].bytes_total
    assert 0 < words[-1].free_bytes < words[-1].bytes_total
    assert words[1].bytes_done == words[1].free_bytes == words[-1].free_bytes, "what is there comes first"


def test_a_replay_is_one_piece_of_work(tmp_path: Path) -> None:
    base, models = world(tmp_path)
    node, heard = node_with(tmp_path / "node", base, models, "opcm"), Heard()
    stay = candidates(node, models[1:], models)
    LocalRestater(node.engine).restate(Replay(Head(), stay), heard)
    assert {word.activity for word in heard.words} == {"replay"}
    words = heard.words
    each = words[-1].bytes_total // 3
    assert [word.tensors_done for word in words] == sorted(word.tensors_done for word in words)
    assert bytes_of(words) == sorted(bytes_of(words)) and words[0].bytes_done == 0
    assert (words[-1].tensors_done, words[-1].bytes_done, words[-1].over) == (3, 3 * each, True)
    assert {word.step for word in words} == {"contributions"}


def test_a_replay_that_is_taken_up_counts_what_was_folded(tmp_path: Path) -> None:
    base, models = world(tmp_path)
    node, heard = node_with(tmp_path / "node", base, models, "opcm"), Heard()
    stay = candidates(node, models[1:], models)
    gone = models[3].rename(tmp_path / "away")
    with pytest.raises(Exception, match="m3"):
        LocalRestater(node.engine).restate(Replay(Head(), stay), Heard())
    (replay,) = unfinished_work(tmp_path / "node" / "state")
    assert (replay.kind, replay.steps_done, replay.steps_total, replay.step) == ("replay", 2, 3, "contributions")
    gone.rename(models[3])
    LocalRestater(node.engine).restate(Replay(Head(), stay), heard)
    last = heard.words[-1]
    assert last.free_bytes == last.bytes_total * 2 // 3 and last.bytes_done == last.bytes_total


def test_what_is_left_of_a_fold_is_told_by_its_files(tmp_path: Path, described: None) -> None:
    base, models = world(tmp_path, count=1)
    node, state = LocalNode(tmp_path / "node", base, "opcm"), tmp_path / "node" / "state"
    assert unfinished_work(state) == [] and unfinished_work(tmp_path / "nowhere") == []
    (state / "base.json").write_text(json.dumps({"fingerprint": "", "base": node.described.to_json()}))
    stopped_half_way(node, models[0])
    (fold,) = unfinished_work(state)
    assert (fold.kind, fold.subject, fold.rate, fold.remaining_seconds) == ("fold", "m0", None, None)
    assert 0 < fold.bytes_done < fold.bytes_total == 4 * sum(spec.numel for spec in node.described.specs.values())
    assert 0 < fold.steps_done < fold.steps_total == 4
    (state / "base.json").unlink()
    assert [each.share for each in unfinished_work(state)] == [None], "without the base nobody knows how much it is"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"candidate": 3}', '{"fold": 3}', "\x00"])
def test_damaged_plans_are_passed_over(tmp_path: Path, text: str) -> None:
    for name in ("folding", "replaying"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "plan.json").write_text(text)
        (tmp_path / name / "shard-x.json").write_text(text)
        (tmp_path / name / "shard-00000.json").write_text(text)
    (tmp_path / "base.json").write_text(text)
    assert all(work.bytes_done == 0 for work in unfinished_work(tmp_path))
