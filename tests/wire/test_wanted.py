"""Who lacks which block, and the runs in which that is said."""

from __future__ import annotations

import os
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.errors import RejectedError
from mergenode.types import DType
from mergenode.wire.blocks import BLOCK_BYTES
from mergenode.wire.wanted import (
    BaseBlocks,
    Lacking,
    changed_tensors,
    held_blocks,
    indexes_of,
    lacking,
    runs_of,
)
from tests.support.wire_models import described, model_of

SAME, OLD, NEW = b"same", b"old.", b"new."


def test_only_what_changed_is_fetched() -> None:
    base = described(model_of(("a", DType.F32, SAME), ("b", DType.F32, OLD)))
    new = described(
        model_of(("a", DType.F32, SAME), ("b", DType.F32, NEW), ("c", DType.U8, NEW), ("d", DType.F32, OLD))
    )
    assert changed_tensors(new, base) == ("b", "c")
    assert lacking(new, held_blocks([base])) == Lacking(fetch=(1,), held=(0, 3), repeats={2: 1})
    assert lacking(new) == Lacking(fetch=(0, 1, 3), held=(), repeats={2: 1})
    assert lacking(base, held_blocks([base])).fetch == ()


def test_the_base_of_a_block_is_at_the_same_place() -> None:
    long = os.urandom(BLOCK_BYTES)
    base = described(model_of(("a", DType.U8, OLD), ("b", DType.BF16, long + OLD), ("c", DType.F32, OLD)))
    new = described(model_of(("b", DType.BF16, long + NEW), ("c", DType.I32, OLD), ("x", DType.U8, OLD)))
    finder = BaseBlocks(base)
    found = [finder.against(place) for place in new.places()]
    assert [place and place.index for place in found] == [1, 2, None, None]


@settings(deadline=None, max_examples=80)
@given(st.sets(st.integers(0, 40), min_size=1))
def test_runs_come_back_as_indexes(indexes: set[int]) -> None:
    runs = runs_of(sorted(indexes))
    assert indexes_of(runs, 41) == sorted(indexes)
    assert all(first + count < after for (first, count), (after, _) in pairwise(runs))


@settings(deadline=None, max_examples=80)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=4))
def test_runs_of_a_peer_never_ask_twice_nor_outside(runs: list[tuple[int, int]]) -> None:
    listed = [index for first, count in runs for index in range(first, first + count)]
    good = all(count for _, count in runs) and listed == sorted(set(listed)) and max(listed) < 10
    if good and runs_of(listed) == runs:
        assert indexes_of(runs, 10) == listed
    else:
        with pytest.raises(RejectedError, match="blocks from"):
            indexes_of(runs, 10)


def test_no_run_asks_for_everything_and_lies_cost_nothing() -> None:
    assert indexes_of([], 3) == [0, 1, 2]
    for runs in ([(0, 2**64 - 1)], [(0, 1), (1, 1)], [(0, 2), (1, 1)], [(1, 1), (0, 1)], [(0, 0)], [(3, 1)]):
        with pytest.raises(RejectedError):
            indexes_of(runs, 3)
