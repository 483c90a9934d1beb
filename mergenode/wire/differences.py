"""Reversible ways to write a block so that what changed is small and what did not is zero. Bits only: NaN payloads,
infinities and minus zero come back as they were.

All work on unsigned little-endian elements of one width. An ordered integer is a float's bits mapped so that integers
are in the order of the values (two's complement of the magnitude for negative ones); then a small step of the value is
a small integer, also across a power of two, where XOR would flip most bits. The difference is taken modulo 2^w and
folded (0, -1, 1, -2, ... become 0, 1, 2, 3, ...) so that its upper bytes are zero whatever its sign.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mergenode.types import DType

Words = NDArray[np.unsignedinteger[Any]]

_STEP_BYTES = 1 << 16
"""Elements are worked on in pieces that stay in the cache, from the elements to the planes and back in one go."""


class Form(Enum):
    """What is written of a block: its elements, or how they differ from those of a base."""

    PLAIN = "plain"
    XOR = "xor"
    ORDERED = "ordered"


def to_planes(block: bytes | memoryview, base: bytes | memoryview | None, dtype: DType, form: Form) -> memoryview:
    """All lowest bytes, then all second ones, and so on: equal bytes lie together. As long as ``block``; new memory.

    ``block``: a whole number of elements; ``base``: of the same length, ignored where ``form`` is PLAIN.
    """
    elements, old = _words(block, dtype), _words(base or b"", dtype)
    planes = np.empty((dtype.size, elements.size), np.uint8)
    shifts = [elements.dtype.type(8 * number) for number in range(dtype.size)]
    for piece in _pieces(elements):
        written = _difference(elements[piece], old[piece], dtype, form)
        for plane, shift in zip(planes, shifts, strict=True):
            np.right_shift(written, shift, out=plane[piece], casting="unsafe")
    return planes.reshape(-1).data


def from_planes(planes: bytes, base: bytes | memoryview | None, dtype: DType, form: Form) -> memoryview:
    """The block that ``to_planes`` was given. New memory."""
    rows, old = np.frombuffer(planes, np.uint8).reshape(dtype.size, -1), _words(base or b"", dtype)
    elements = np.empty(rows.shape[1], f"<u{dtype.size}")
    for piece in _pieces(elements):
        part = elements[piece]
        octets = part.view(np.uint8).reshape(-1, dtype.size)
        for number, row in enumerate(rows):
            octets[:, number] = row[piece]
        if form is Form.XOR:
            np.bitwise_xor(part, old[piece], out=part)
        elif form is Form.ORDERED:
            elements[piece] = _undone(part, old[piece], dtype.is_float)
    return elements.view(np.uint8).data


def _words(data: bytes | memoryview, dtype: DType) -> Words:
    """The elements as unsigned integers; shares memory with ``data``."""
    return np.frombuffer(data, f"<u{dtype.size}")


def _difference(block: Words, base: Words, dtype: DType, form: Form) -> Words:
    match form:
        case Form.PLAIN:
            return block
        case Form.XOR:
            return np.bitwise_xor(block, base)
    step = _ordered(block, dtype.is_float) - _ordered(base, dtype.is_float)
    folded: Words = ((step << 1) ^ _sign(step)).view(block.dtype)
    return folded


def _undone(folded: Words, base: Words, floating: bool) -> Words:
    """The block behind a folded difference of ordered integers."""
    one = folded.dtype.type(1)
    step = (folded >> one).view(_signed(folded)) ^ -(folded & one).view(_signed(folded))
    block: Words = _unordered(step + _ordered(base, floating), floating).view(folded.dtype)
    return block


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
