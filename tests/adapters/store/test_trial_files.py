"""What is remembered of trials: bounded, of one plug-in, and worth nothing when it is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergenode.adapters.store.trial_files import TrialFiles
from tests.support.facts import digest


def test_scores_survive_a_restart_and_belong_to_their_plug_in(tmp_path: Path) -> None:
    TrialFiles(tmp_path, "task:A").remember(digest(1), {"accuracy": 0.5})
    assert TrialFiles(tmp_path, "task:A").scores(digest(1)) == {"accuracy": 0.5}
    assert TrialFiles(tmp_path, "task:A").scores(digest(2)) is None
    assert TrialFiles(tmp_path, "task:B").scores(digest(1)) is None


def test_the_oldest_merges_are_forgotten(tmp_path: Path) -> None:
    files = TrialFiles(tmp_path, "task:A")
    for number in range(40):
        files.remember(digest(number), {"accuracy": float(number)})
    assert [number for number in range(40) if files.scores(digest(number))] == list(range(24, 40))


def test_a_gradient_is_of_one_merge_and_has_to_be_there(tmp_path: Path) -> None:
    files = TrialFiles(tmp_path, "task:A")
    files.remember_gradient(digest(1))
    assert not files.gradient_is_of(digest(1)), "its file is gone"
    files.gradient.write_bytes(b"gradient")
    assert files.gradient_is_of(digest(1)) and not files.gradient_is_of(digest(2))
    files.forget_gradient()
    assert not files.gradient_is_of(digest(1))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 1}', b"[" * 100_000, b'{"a": NaN}'])
def test_what_is_damaged_is_not_remembered(tmp_path: Path, content: bytes) -> None:
    files = TrialFiles(tmp_path, "task:A")
    files.remember(digest(1), {"accuracy": 0.5})
    (files.folder / "remembered.json").write_bytes(content)
    assert files.scores(digest(1)) is None
    files.remember(digest(2), {"accuracy": 1.0})
    assert files.scores(digest(2)) == {"accuracy": 1.0}


def test_scores_that_are_no_numbers_count_for_nothing(tmp_path: Path) -> None:
    files = TrialFiles(tmp_path, "task:A")
    files.remember(digest(1), {"accuracy": "high"})  # type: ignore[dict-item]  # on purpose
    assert files.scores(digest(1)) is None
