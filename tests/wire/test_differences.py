"""Reversible forms of a block, against one element at a time in whole numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.types import DType
from mergenode.wire.differences import Form, from_planes, to_planes


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


def literal_planes(dtype: DType, block: bytes, base: bytes, form: Form) -> bytes:
    """First bytes of all elements, then the second ones, ..."""
    match form:
        case Form.XOR:
            block = bytes(new ^ old for new, old in zip(block, base, strict=True))
        case Form.ORDERED:
            block = b"".join(step.to_bytes(dtype.size, "little") for step in literal_difference(dtype, block, base))
    return b"".join(block[number :: dtype.size] for number in range(dtype.size))


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
    for form in Form:
        planes = to_planes(block, base, dtype, form)
        assert planes == literal_planes(dtype, block, base, form)
        assert from_planes(bytes(planes), base, dtype, form) == block


@pytest.mark.parametrize("dtype", [DType.BF16, DType.F16])
def test_all_halves_against_shifted_ones(dtype: DType) -> None:
    """Every bit pattern there is: NaN payloads, infinities, both zeros."""
    every = np.arange(1 << 16, dtype="<u2")
    for shift in (0, 1, 0x7FFF, 0x8000):
        base = (every + np.uint16(shift)).astype("<u2")
        for form in Form:
            planes = to_planes(every.tobytes(), base.tobytes(), dtype, form)
            assert from_planes(bytes(planes), base.tobytes(), dtype, form) == every.tobytes()


def test_blocks_longer_than_a_piece() -> None:
    source = np.random.default_rng(0)
    for dtype in DType:
        block, base = source.bytes(200_000), source.bytes(200_000)
        for form in Form:
            planes = to_planes(block, base, dtype, form)
            assert from_planes(bytes(planes), base, dtype, form) == block
        assert to_planes(block, None, dtype, Form.PLAIN) == literal_planes(dtype, block, base, Form.PLAIN)


def test_a_step_across_a_power_of_two_or_zero_is_small() -> None:
    values = np.array([1.0, 2.0, 1.1754944e-38, -1.0], "<f4")
    below = np.nextafter(values, np.float32(-np.inf))
    assert to_planes(below.tobytes(), values.tobytes(), DType.F32, Form.ORDERED) == b"\1" * 4 + bytes(12)
    zeros = np.array([-0.0, 0.0], "<f4").tobytes()
    assert to_planes(zeros[:4], zeros[4:], DType.F32, Form.ORDERED) == b"\1\0\0\0"
