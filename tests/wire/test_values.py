"""Norm, largest magnitude, finiteness: against exact sums."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.types import DType
from mergenode.wire.values import ValueFigures, ValueSurvey

FLOATS = [DType.F64, DType.F32, DType.F16, DType.BF16]


def values_of(dtype: DType, data: bytes) -> list[float]:
    """Slow and obvious: one element at a time."""
    if dtype is DType.BF16:
        return [float(np.array([bits << 16], "<u4").view("<f4")[0]) for bits in np.frombuffer(data, "<u2").tolist()]
    kind = {DType.F64: "<f8", DType.F32: "<f4", DType.F16: "<f2"}[dtype]
    return [float(value) for value in np.frombuffer(data, kind)]


def survey(dtype: DType, *pieces: bytes) -> ValueFigures:
    collected = ValueSurvey(dtype)
    for piece in pieces:
        collected.add(piece)
    return collected.figures()


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(FLOATS), st.binary(max_size=96), st.binary(max_size=96))
def test_figures_of_any_bits(dtype: DType, first: bytes, second: bytes) -> None:
    pieces = [data[: len(data) // dtype.size * dtype.size] for data in (first, second)]
    values = [value for piece in pieces for value in values_of(dtype, piece)]
    good = [abs(value) for value in values if math.isfinite(value)]
    figures = survey(dtype, *pieces)
    assert figures.finite == (len(good) == len(values))
    assert figures.max_abs == max(good, default=0)
    scale = max(good, default=0) or 1.0
    norm = math.sqrt(math.fsum((value / scale) ** 2 for value in good)) * scale
    assert figures.l2 == pytest.approx(min(norm, sys.float_info.max), rel=1e-12, abs=1e-323)
    assert figures.max_abs <= figures.l2 <= sys.float_info.max


def test_a_long_tensor_is_summed_like_an_exact_sum() -> None:
    data = np.random.default_rng(1).standard_normal(100_003).astype("<f4")
    assert survey(DType.F32, data.tobytes()).l2 == pytest.approx(
        math.sqrt(math.fsum(float(x) ** 2 for x in data)), rel=1e-13
    )


def test_the_sum_is_the_same_bits_everywhere() -> None:
    """A promise to manifests that exist: the order of additions is fixed."""
    bits = (np.arange(100_000, dtype=np.uint32) * np.uint32(2654435761) >> 17).astype("<u2") & np.uint16(0xBFFF)
    values = (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64).tolist()
    total = 0.0
    for first in range(0, len(values), 1 << 15):
        piece = [value * value for value in values[first : first + (1 << 15)]]
        piece += [0.0] * ((1 << 15) - len(piece))
        while len(piece) > 1:
            half = len(piece) // 2
            piece = [piece[i] + piece[i + half] for i in range(half)]
        total += piece[0]
    assert survey(DType.BF16, bits.tobytes()).l2.hex() == math.sqrt(total).hex() == "0x1.895b50180db3fp+5"


def test_extremes_neither_overflow_nor_vanish() -> None:
    assert survey(DType.F64, np.array([3e200, 4e200]).tobytes()).l2 == pytest.approx(5e200)
    assert survey(DType.F64, np.array([3e-200]).tobytes(), np.array([4e-200]).tobytes()).l2 == pytest.approx(5e-200)
    assert survey(DType.F64, np.array([4e200]).tobytes(), np.array([3e-200]).tobytes()).l2 == pytest.approx(4e200)
    assert survey(DType.F64, np.full(2, 1.7e308).tobytes()).l2 == sys.float_info.max
    assert survey(DType.I32, b"\xff" * 8) == ValueFigures() == survey(DType.BF16)
