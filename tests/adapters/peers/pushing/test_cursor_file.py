from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from mergenode.adapters.peers.pushing.cursor_file import CursorFile
from mergenode.adapters.peers.pushing.cursors import Cursor

CURSORS = {UUID(int=1): Cursor(7, frozenset({9, 12})), UUID(int=2): Cursor()}


def test_another_life_reads_what_was_written(tmp_path: Path) -> None:
    path, told = tmp_path / "peers" / "forwarded.json", list[str]()
    assert CursorFile(path, "one", told.append).read() == {}
    CursorFile(path, "one", told.append).write(CURSORS)
    assert CursorFile(path, "one", told.append).read() == CURSORS
    assert not told


def test_numbers_of_another_ledger_mean_nothing(tmp_path: Path) -> None:
    path, told = tmp_path / "forwarded.json", list[str]()
    CursorFile(path, "one", told.append).write(CURSORS)
    assert CursorFile(path, "two", told.append).read() == {}
    assert "offered to all neighbours again" in told[0]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"schema": "mergenode.forwarded/1", "ledger": "one"}',
        b'{"schema": "mergenode.forwarded/1", "ledger": "one", "nodes": {"x": {"upto": 1, "ahead": []}}}',
        b'{"schema": "mergenode.forwarded/1", "ledger": "one", "nodes": '
        b'{"00000000-0000-0000-0000-000000000001": {"upto": true, "ahead": []}}}',
    ],
)
def test_a_damaged_file_begins_anew(tmp_path: Path, data: bytes) -> None:
    path, told = tmp_path / "forwarded.json", list[str]()
    path.write_bytes(data)
    assert CursorFile(path, "one", told.append).read() == {} and len(told) == 1
