"""Statistics on disk: one generation is current, the ledger says which."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergenode.adapters.store.generations import FolderGenerations
from mergenode.errors import FatalError, TransientError


@pytest.fixture
def generations(tmp_path: Path) -> FolderGenerations:
    generations = FolderGenerations(tmp_path / "state")
    generations.prepare()
    return generations


def fold(generations: FolderGenerations, text: str) -> None:
    generations.folding.mkdir()
    (generations.folding / "shard").write_text(text)


def kept(generations: FolderGenerations) -> dict[str, str]:
    folders = [*generations.statistics.iterdir(), generations.folding]
    return {path.name: (path / "shard").read_text() for path in folders if path.is_dir()}


def test_preparing_twice_is_harmless(generations: FolderGenerations) -> None:
    fold(generations, "a")
    generations.install(1)
    generations.prepare()
    assert kept(generations) == {"g00000001": "a"}


def test_install_moves_the_finished_fold(generations: FolderGenerations) -> None:
    fold(generations, "a")
    generations.install(1)
    assert kept(generations) == {"g00000001": "a"}
    assert generations.recover(1) == []


def test_a_fold_that_was_not_committed_is_taken_up_again(generations: FolderGenerations) -> None:
    fold(generations, "a")
    generations.install(1)
    fold(generations, "b")
    generations.install(2)
    (told,) = generations.recover(1)
    assert "generation 2" in told and "taken up again" in told
    assert kept(generations) == {"g00000001": "a", "folding": "b"}
    assert generations.recover(1) == []


def test_it_takes_the_place_of_a_fold_that_began_afterwards(generations: FolderGenerations) -> None:
    fold(generations, "b")
    generations.install(1)
    fold(generations, "begun")
    generations.recover(0)
    assert kept(generations) == {"folding": "b"}


def test_superseded_generations_go(generations: FolderGenerations) -> None:
    for number in (1, 2, 3):
        fold(generations, str(number))
        generations.install(number)
    assert len(generations.recover(3)) == 2
    assert kept(generations) == {"g00000003": "3"}


def test_retire_keeps_the_current_one(generations: FolderGenerations) -> None:
    for number in (1, 2):
        fold(generations, str(number))
        generations.install(number)
    generations.retire(2)
    generations.retire(2)
    assert kept(generations) == {"g00000002": "2"}


@pytest.mark.parametrize("begun", [True, False])
def test_a_missing_current_generation_is_fatal(generations: FolderGenerations, begun: bool) -> None:
    if begun:
        fold(generations, "x")
    with pytest.raises(FatalError, match="g00000007") as caught:
        generations.recover(7)
    assert "backup" in caught.value.hint


def test_discard_removes_the_fold_and_nothing_else(generations: FolderGenerations) -> None:
    fold(generations, "a")
    generations.install(1)
    fold(generations, "b")
    generations.discard()
    generations.discard()
    assert kept(generations) == {"g00000001": "a"}


@pytest.mark.parametrize("tidy", ["retire", "recover"])
def test_removals_that_a_kill_interrupted_are_finished(generations: FolderGenerations, tidy: str) -> None:
    fold(generations, "a")
    generations.install(1)
    strays = [
        generations.statistics / ".g00000000.removing",
        *(generations.state / f".{name}.removing" for name in ("folding", "replaying")),
    ]
    for stray in strays:
        stray.mkdir()
        (stray / "shard").write_text("x")
    getattr(generations, tidy)(1)
    assert not any(stray.exists() for stray in strays)
    assert kept(generations) == {"g00000001": "a"}


def test_what_is_not_a_generation_is_left_alone(generations: FolderGenerations) -> None:
    fold(generations, "a")
    generations.install(1)
    folders, files = ["lost+found", "g²", "g1", "g000000001", "g٣"], ["notes.txt", ".nfs0001"]
    strangers = [*folders, *files]
    for name in folders:
        (generations.statistics / name).mkdir()
    for name in files:
        (generations.statistics / name).write_text("x")
    generations.recover(1)
    generations.retire(1)
    assert {path.name for path in generations.statistics.iterdir()} == {*strangers, "g00000001"}


def test_sizes(generations: FolderGenerations) -> None:
    fold(generations, "abc")
    generations.install(1)
    fold(generations, "de")
    used, free = generations.sizes()
    assert used == 5 and free > 0


def test_a_state_that_cannot_be_written_is_transient(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(TransientError):
        FolderGenerations(tmp_path / "file").prepare()


def test_installing_over_a_generation_is_refused(generations: FolderGenerations) -> None:
    fold(generations, "a")
    generations.install(1)
    fold(generations, "b")
    with pytest.raises(TransientError):
        generations.install(1)
    assert kept(generations) == {"g00000001": "a", "folding": "b"}
