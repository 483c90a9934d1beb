"""Reversible forms of a block, against one element at a time in whole numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.types import DType
from mergenode.wire.differences import from_ordered_difference, joined, ordered_difference, split, words, xor


def literal_difference(dtype: DType, block: bytes, base: bytes) -> list[int]:
    """Slow and obvious, in Python's integers."""
    bits = 8 * dtype.size

    def ordered(raw: bytes) -> int:
        value = int.from_bytes(raw, "little", signed=True)
        return -(value + (1 << (bits - 1))) - 1 if dtype.is_float and value < 0 else value

    folded = []
    for at in range(0, len(block), dtype.size):
        step = ordered(block[at : at + dtype.size]) - ordered(base[at : at + dtype.size])
        step = (step + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))
        folded.append(2 * step if step >= 0 else -2 * step - 1)
    return folded


pairs = st.sampled_from(DType).flatmap(
    lambda dtype: st.integers(0, 9).flatmap(
        lambda count: st.tuples(
            st.just(dtype),
            st.binary(min_size=count * dtype.size, max_size=count * dtype.size),
            st.binary(min_size=count * dtype.size, max_size=count * dtype.size),
        )
    )
)


@settings(deadline=None, max_examples=150)
@given(pairs)
def test_the_difference_is_that_of_whole_numbers_and_comes_back(case: tuple[DType, bytes, bytes]) -> None:
    dtype, block, base = case
    new, old = words(block, dtype), words(base, dtype)
    difference = ordered_difference(new, old, floating=dtype.is_float)
    assert difference.tolist() == literal_difference(dtype, block, base)
    assert from_ordered_difference(difference, old, floating=dtype.is_float).tobytes() == block
    assert xor(xor(new, old), old).tobytes() == block
    planes = split(new)
    assert planes.tobytes() == b"".join(block[number :: dtype.size] for number in range(dtype.size))
    assert joined(planes.tobytes(), dtype).tobytes() == block


@pytest.mark.parametrize("dtype", [DType.BF16, DType.F16])
def test_all_halves_against_shifted_ones(dtype: DType) -> None:
    """Every bit pattern there is: NaN payloads, infinities, both zeros."""
    every = np.arange(1 << 16, dtype="<u2")
    for shift in (0, 1, 0x7FFF, 0x8000):
        base = (every + np.uint16(shift)).astype("<u2")
        difference = ordered_difference(every, base, floating=True)
        assert np.array_equal(from_ordered_difference(difference, base, floating=True), every)


def test_a_step_across_a_power_of_two_or_zero_is_small() -> None:
    values = np.array([1.0, 2.0, 1.1754944e-38, -1.0], "<f4")
    below = np.nextafter(values, np.float32(-np.inf))
    difference = ordered_difference(
        words(below.tobytes(), DType.F32), words(values.tobytes(), DType.F32), floating=True
    )
    assert difference.tolist() == [1, 1, 1, 1]
    zeros = np.array([-0.0, 0.0], "<f4")
    difference = ordered_difference(
        words(zeros[:1].tobytes(), DType.F32), words(zeros[1:].tobytes(), DType.F32), floating=True
    )
    assert difference.tolist() == [1]
