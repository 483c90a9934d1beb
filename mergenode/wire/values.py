"""Norm, largest magnitude and finiteness of a tensor's bytes: the same bits on every machine.

Sums are taken in binary64 by halving: pairs at a fixed distance are added, element by element, until one is left.
Library sums add in an order that depends on the vector unit, and the result would depend on the machine.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mergenode.types import DType

_PIECE = 1 << 15
"""Elements that are summed by halving; pieces are added one after another. 256 KiB of binary64 stay in the cache."""

_BITS = {DType.F64: "<u8", DType.F32: "<u4", DType.F16: "<u2", DType.BF16: "<u2"}
_INFINITY = {DType.F64: 0x7FF << 52, DType.F32: 0xFF << 23, DType.F16: 0x1F << 10, DType.BF16: 0xFF << 7}
"""Bits of positive infinity: a larger magnitude is a NaN."""


@dataclass(frozen=True, slots=True)
class ValueFigures:
    """What a manifest says of a tensor's values; zero and True for element types that are not merged.

    ``l2`` (Frobenius norm, at most the largest binary64) and ``max_abs`` leave out what is not finite.
    """

    l2: float = 0.0
    max_abs: float = 0.0
    finite: bool = True


NOTHING_MEASURED = ValueFigures()
"""Of tensors that are empty or not merged."""


class ValueSurvey:
    """Collects the figures of one tensor, block by block, in order."""

    def __init__(self, dtype: DType) -> None:
        self._dtype = dtype
        self._squares = 0.0  # in units of 4 ** _exponent
        self._exponent = 0
        self._max_abs = 0.0
        self._finite = True

    def add(self, data: bytes | memoryview) -> None:
        """The next block: little-endian elements, a whole number of them. The bytes stay the caller's."""
        if not self._dtype.is_float:
            return
        bits = np.frombuffer(data, _BITS[self._dtype])
        for first in range(0, bits.size, _PIECE):
            self._add_piece(bits[first : first + _PIECE])

    def figures(self) -> ValueFigures:
        """Of all that was added. The norm is never below the largest magnitude, whatever was rounded."""
        try:
            norm = math.ldexp(math.sqrt(self._squares), self._exponent)
        except OverflowError:
            norm = sys.float_info.max
        return ValueFigures(max(norm, self._max_abs), self._max_abs, self._finite)

    def _add_piece(self, bits: NDArray[np.unsignedinteger]) -> None:
        infinity = _INFINITY[self._dtype]
        magnitudes = bits & bits.dtype.type((1 << (bits.itemsize * 8 - 1)) - 1)
        if int(magnitudes.max()) >= infinity:
            self._finite = False
            magnitudes[magnitudes >= infinity] = 0
        values = _binary64(magnitudes, self._dtype)
        largest = float(values.max())
        self._max_abs = max(self._max_abs, largest)
        if largest:
            exponent = math.frexp(largest)[1] if self._dtype is DType.F64 else 0
            self._add_squares(values, exponent)

    def _add_squares(self, values: NDArray[np.float64], exponent: int) -> None:
        """Powers of two are taken out where squares could leave binary64; that changes no bit of those which do not."""
        squares = np.zeros(_PIECE)
        squares[: values.size] = np.ldexp(values, -exponent) if exponent else values
        np.multiply(squares, squares, out=squares)
        half = _PIECE
        while half > 1:
            half //= 2
            squares[:half] += squares[half : 2 * half]
        common = max(exponent, self._exponent) if self._squares else exponent
        self._squares = math.ldexp(self._squares, 2 * (self._exponent - common))
        self._squares += math.ldexp(float(squares[0]), 2 * (exponent - common))
        self._exponent = common


def _binary64(magnitudes: NDArray[np.unsignedinteger], dtype: DType) -> NDArray[np.float64]:
    """The values behind non-negative finite bits, exactly."""
    match dtype:
        case DType.BF16:
            return (magnitudes.astype("<u4") << np.uint32(16)).view("<f4").astype(np.float64)
        case DType.F16:
            return magnitudes.view("<f2").astype(np.float64)
        case DType.F32:
            return magnitudes.view("<f4").astype(np.float64)
        case _:
            return magnitudes.view("<f8").astype(np.float64)
