"""A node that was killed, or may be soon, says so at its start."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from mergenode.adapters.store.lock import StateLock, read_lock
from mergenode.adapters.store.lock_file import write_record
from mergenode.bootstrap import kills
from mergenode.bootstrap.kills import warn_of_kills
from mergenode.settings import parse_settings
from tests.support.fake_ports import Witness

MINIMAL = "base: ./base\nregistries: []\nengine: {memory_limit: 1GiB}\n"
TASK = "task: {entrypoint: 'package.module:Task', memory_limit: 1GiB}\n"


class Told(Witness):
    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def message(self, level: str, text: str, **fields: object) -> None:
        assert level == "warning" and fields["hint"]
        self.words.append(text)


def told(root: Path, limit: int | None, monkeypatch: pytest.MonkeyPatch, more: str = "") -> list[str]:
    """What a node says at its start with this much memory."""
    monkeypatch.setattr(kills, "memory_limit", lambda: limit)
    observer = Told()
    with StateLock(root / "state"):
        warn_of_kills(parse_settings(MINIMAL + more, directory=root), observer)
    return observer.words


def as_if_killed(state: Path) -> None:
    """The record as its holder left it that had no time to give the lock back."""
    owner = read_lock(state)
    assert owner is not None and owner.ended
    descriptor = os.open(state / "lock", os.O_RDWR)
    write_record(descriptor, replace(owner, ended=False))
    os.close(descriptor)


def test_kills_in_a_row_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(tmp_path, None, monkeypatch) == []
    assert told(tmp_path, None, monkeypatch) == []
    for said in ("was killed", "1 more in a row were killed", "2 more in a row were killed"):
        as_if_killed(tmp_path / "state")
        (text,) = told(tmp_path, None, monkeypatch)
        assert said in text
    assert told(tmp_path, None, monkeypatch) == []


@pytest.mark.parametrize(
    ("limit", "more", "warned"),
    [
        (None, "", False),
        (2 << 30, "", False),
        (1 << 30, "", False),
        ((1 << 30) - 1, "", True),
        ((2 << 30) - 1, TASK, True),
        (2 << 30, TASK, False),
    ],
)
def test_a_container_that_allows_less_than_is_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int | None, more: str, warned: bool
) -> None:
    words = told(tmp_path, limit, monkeypatch, more)
    assert ["less than engine.memory_limit" in text for text in words] == [True] * warned
