"""Files that are read again when they change."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from mergenode.adapters.peers.access.rotating import Rotating
from mergenode.errors import FatalError


def pair(contents: Sequence[bytes]) -> bytes:
    if contents[0] != contents[1]:
        raise ValueError(f"{contents[0]!r} and {contents[1]!r} differ")
    return contents[0]


def put(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(".fresh")
    fresh.write_bytes(content)
    os.replace(fresh, path)


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    for name in "ab":
        (tmp_path / name).write_bytes(b"1")
    return tmp_path / "a", tmp_path / "b"


def test_a_half_written_rotation_keeps_the_old_and_is_told_once(paths: tuple[Path, Path]) -> None:
    told: list[str] = []
    files = Rotating(paths, pair, told.append, "")
    assert files.current() == (b"1", 1)
    put(paths[0], b"2")
    assert [files.current() for _ in range(3)] == [(b"1", 1)] * 3
    assert len(told) == 1 and "differ" in told[0]
    put(paths[1], b"2")
    assert [files.current() for _ in range(3)] == [(b"2", 2)] * 3
    assert len(told) == 1


def test_files_that_vanish_come_back(paths: tuple[Path, Path]) -> None:
    told: list[str] = []
    files = Rotating(paths, pair, told.append, "")
    paths[0].unlink()
    assert files.current() == (b"1", 1) and str(paths[0]) in told[0]
    put(paths[0], b"1")
    assert files.current() == (b"1", 2) and len(told) == 1


def test_a_link_that_moves_is_a_change(tmp_path: Path) -> None:
    """That is how mounted secrets change."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    (tmp_path / "now").symlink_to("one")
    files = Rotating([tmp_path / "now/file"], lambda contents: contents[0], pytest.fail, "")
    (tmp_path / "next").symlink_to("two")
    os.replace(tmp_path / "next", tmp_path / "now")
    assert files.current() == (b"two", 2)


def test_what_changes_while_it_is_read_is_read_again(paths: tuple[Path, Path]) -> None:
    waiting = [b"3"]

    def parse(contents: Sequence[bytes]) -> bytes:
        if contents[0] == b"2" and waiting:
            put(paths[0], waiting.pop())
        return contents[0]

    files = Rotating(paths, parse, pytest.fail, "")
    put(paths[0], b"2")
    assert files.current() == (b"1", 1), "not what is gone already"
    assert files.current() == (b"3", 2)


def test_nothing_usable_at_the_start_is_fatal(paths: tuple[Path, Path]) -> None:
    put(paths[1], b"9")
    with pytest.raises(FatalError, match="differ") as told:
        Rotating(paths, pair, pytest.fail, "do this")
    assert told.value.hint == "do this"
    put(paths[1], b"x" * ((1 << 20) + 1))
    with pytest.raises(FatalError, match="larger"):
        Rotating(paths, pair, pytest.fail, "")
