"""Work that is told of: its beginning, its end, and a bounded number of words in between."""

from __future__ import annotations

import pytest

from mergenode.ports.told import MOST_BYTES, PARTS, Told
from tests.support.heard import Heard


def test_a_large_piece_of_work_is_told_of_a_few_hundred_times() -> None:
    heard, steps, each = Heard(), 100_000, 1 << 20
    with Told(heard, "fold", "m", total_steps=steps, total_bytes=steps * each) as told:
        for _ in range(steps):
            told.add(1, each)
    assert PARTS <= len(heard.words) <= max(2 * PARTS, steps * each // MOST_BYTES) + 3
    assert [word.over for word in heard.words[:-1]] == [False] * (len(heard.words) - 1)
    first, last = heard.words[0], heard.words[-1]
    assert (first.tensors_done, first.bytes_done) == (0, 0)
    assert last.over and (last.tensors_done, last.bytes_done) == (steps, steps * each)


def test_every_step_of_a_small_one_is_told() -> None:
    heard = Heard()
    with Told(heard, "fold", "m", total_steps=3, total_bytes=30) as told:
        for _ in range(3):
            told.add(1, 10)
    assert [word.tensors_done for word in heard.words] == [0, 1, 2, 3, 3]


def test_it_ends_when_it_fails() -> None:
    heard = Heard()
    with pytest.raises(ValueError, match="broken"), Told(heard, "fold", "m", total_bytes=100) as told:
        told.add(0, 50, free=True)
        raise ValueError("broken")
    assert heard.words[-1].over and heard.words[-1].free_bytes == heard.words[-1].bytes_done == 50


def test_more_than_all_is_never_told() -> None:
    heard = Heard()
    with Told(heard, "fold", "m", total_bytes=100) as told:
        told.add(1, 70)
        told.add(1, 70, free=True)
    assert max(word.bytes_done for word in heard.words) == 100
    assert all(word.free_bytes <= word.bytes_done for word in heard.words)


def test_totals_that_become_known_on_the_way() -> None:
    heard = Heard()
    with Told(heard, "hash", "base") as told:
        told.at_bytes(10, 1000)
    with Told(heard, "objective", "loss()", step="batches") as told:
        told.at(2, 8)
    assert [(word.bytes_done, word.bytes_total) for word in heard.words[:3]] == [(0, 0), (10, 1000), (10, 1000)]
    assert [(word.tensors_done, word.tensors_total, word.step) for word in heard.words[-2:]] == [(2, 8, "batches")] * 2
