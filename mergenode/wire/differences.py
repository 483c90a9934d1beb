"""Reversible ways to write a block so that what changed is small and what did not is zero. Bits only: NaN payloads,
infinities and minus zero come back as they were.

All work on unsigned little-endian elements of one width. An ordered integer is a float's bits mapped so that integers
are in the order of the values (two's complement of the magnitude for negative ones); then a small step of the value is
a small integer, also across a power of two, where XOR would flip most bits. The difference is taken modulo 2^w and
folded (0, -1, 1, -2, ... become 0, 1, 2, 3, ...) so that its upper bytes are zero whatever its sign.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mergenode.types import DType

Words = NDArray[np.unsignedinteger[Any]]

_STEP_BYTES = 1 << 16
"""Elements are worked on in pieces that stay in the cache: 2.6 against 1.9 GB/s at 8 MiB."""


def words(data: bytes | memoryview, dtype: DType) -> Words:
    """The elements as unsigned integers; shares memory with ``data``, a whole number of elements."""
    return np.frombuffer(data, f"<u{dtype.size}")


def xor(block: Words, base: Words) -> Words:
    """Its own inverse. Same length; a new array."""
    return np.bitwise_xor(block, base)


def ordered_difference(block: Words, base: Words, *, floating: bool) -> Words:
    """Folded difference of ordered integers, element by element; a new array. ``floating``: the bits are floats."""
    result = np.empty_like(block)
    for piece in _pieces(block):
        step = _ordered(block[piece], floating) - _ordered(base[piece], floating)
        result[piece] = ((step << 1) ^ _sign(step)).view(block.dtype)
    return result


def from_ordered_difference(difference: Words, base: Words, *, floating: bool) -> Words:
    """The block that ``ordered_difference`` was given; a new array."""
    result = np.empty_like(difference)
    one = difference.dtype.type(1)
    for piece in _pieces(difference):
        folded = difference[piece]
        step = (folded >> one).view(_signed(folded)) ^ -(folded & one).view(_signed(folded))
        total = step + _ordered(base[piece], floating)
        result[piece] = _unordered(total, floating).view(difference.dtype)
    return result


def split(elements: Words) -> NDArray[np.uint8]:
    """All lowest bytes, then all second ones, and so on: equal bytes lie together. Flat, a new array."""
    width = elements.dtype.itemsize
    planes = np.empty((width, elements.size), np.uint8)
    for number in range(width):
        shift = elements.dtype.type(8 * number)
        np.right_shift(elements, shift, out=planes[number], casting="unsafe")
    return planes.reshape(-1)


def joined(planes: bytes, dtype: DType) -> Words:
    """The elements that ``split`` was given; a new array."""
    rows = np.frombuffer(planes, np.uint8).reshape(dtype.size, -1)
    elements = np.empty((rows.shape[1], dtype.size), np.uint8)
    for number in range(dtype.size):
        elements[:, number] = rows[number]
    return elements.reshape(-1).view(f"<u{dtype.size}")


def _pieces(elements: Words) -> list[slice]:
    step = _STEP_BYTES // elements.dtype.itemsize
    return [slice(first, first + step) for first in range(0, elements.size, step)]


def _signed(elements: NDArray[Any]) -> str:
    return f"<i{elements.dtype.itemsize}"


def _sign(elements: NDArray[Any]) -> NDArray[Any]:
    """-1 where negative, else 0."""
    sign: NDArray[Any] = elements >> elements.dtype.type(8 * elements.dtype.itemsize - 1)
    return sign


def _ordered(bits: Words, floating: bool) -> NDArray[Any]:
    signed = bits.view(_signed(bits))
    return _unordered(signed, floating)


def _unordered(signed: NDArray[Any], floating: bool) -> NDArray[Any]:
    """Flips all but the sign of negative ones; its own inverse. Integers are in order as they are."""
    if not floating:
        return signed
    flipped: NDArray[Any] = signed ^ (_sign(signed) & np.iinfo(signed.dtype).max)
    return flipped
