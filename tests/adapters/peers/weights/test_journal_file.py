"""The journal on disk: the newest copy that is whole, whatever happened to the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergenode.adapters.peers.weights.journal_file import JOURNAL, JournalFile, load_journal
from mergenode.wire.blocks import Root
from mergenode.wire.journal import Journal

ROOT, BLOCKS = Root(b"r" * 32), 50_000


def stored(folder: Path, *written: int) -> None:
    file = JournalFile(folder, ROOT, BLOCKS)
    for bits in written:
        file.store(Journal(ROOT, BLOCKS, bits))
    file.close()


def found(folder: Path) -> int | None:
    file = JournalFile(folder, ROOT, BLOCKS)
    file.close()
    journal = load_journal(folder, ROOT, BLOCKS)
    assert journal == file.found
    return None if journal is None else journal.written


def test_a_new_one_says_nothing(tmp_path: Path) -> None:
    assert load_journal(tmp_path, ROOT, BLOCKS) is None
    assert found(tmp_path) is None


@pytest.mark.parametrize("lives", [[[1]], [[1, 3]], [[1, 3, 7]], [[1], [3], [7], [15]], [[1, 3], [7], [], [15, 31]]])
def test_the_newest_is_found(tmp_path: Path, lives: list[list[int]]) -> None:
    for written in lives:
        stored(tmp_path, *written)
    assert found(tmp_path) == lives[-1][-1]


@pytest.mark.parametrize("writes", [2, 3, 4])
@pytest.mark.parametrize("cut", [0, 10, 70, 5_000])
def test_a_torn_write_leaves_the_one_before(tmp_path: Path, writes: int, cut: int) -> None:
    """The copy that was being written is damaged from some byte on."""
    written = [(1 << number) - 1 for number in range(1, writes + 1)]
    stored(tmp_path, *written)
    path = tmp_path / JOURNAL
    data, half = bytearray(path.read_bytes()), path.stat().st_size // 2
    last = (writes - 1) % 2 * half
    data[last + cut : last + half] = bytes(half - cut)[::-1].replace(b"\0", b"\xee")
    path.write_bytes(data)
    assert found(tmp_path) == written[-2]


@pytest.mark.parametrize("data", [b"", b"x" * 100, bytes(1 << 16)])
def test_what_is_no_journal_says_nothing(tmp_path: Path, data: bytes) -> None:
    (tmp_path / JOURNAL).write_bytes(data)
    assert found(tmp_path) is None
    stored(tmp_path, 5)
    assert found(tmp_path) == 5


def test_the_journal_of_another_transfer_says_nothing(tmp_path: Path) -> None:
    stored(tmp_path, 5)
    assert load_journal(tmp_path, Root(bytes(32)), BLOCKS) is None
    assert load_journal(tmp_path, ROOT, BLOCKS + 1) is None
