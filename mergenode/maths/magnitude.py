"""The k-th largest magnitude of a tensor, without a copy of the tensor."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mergenode.maths.norms import CHUNK, chunks

SAMPLE = 1 << 16
"""Evenly spaced elements that tell where to look."""

DEVIATIONS = 4.0
"""Half the width of the bracket, in standard deviations of the rank that a random sample of this size would have."""

_DIGIT = 16
_DIGITS = 1 << _DIGIT

Magnitudes = NDArray[np.float32] | NDArray[np.float64]


def kth_largest_magnitude(tensor: Tensor, k: int) -> float:
    """The k-th largest of ``|x|`` over the elements x of ``tensor`` (any shape, fp32 or fp64, finite), from 1.

    Exact, so the same on every machine; equal magnitudes count as often as they occur. One pass that looks between two
    magnitudes of a sample and selects there; where the sample misleads, digit by digit. Works on the CPU in linear
    time; allocates an eighth of the tensor and a few chunks.

    Raises:
        ValueError: k is below 1 or above the number of elements.
    """
    if not 1 <= k <= tensor.numel():
        raise ValueError(f"no {k}-th largest of {tensor.numel()} magnitudes")
    flat = tensor.detach().reshape(-1).cpu()
    if flat.numel() <= SAMPLE:
        return _select(flat.abs().numpy(), k)
    found = _between(flat, k, *_bracket(flat, k))
    return _by_digits(flat, k) if found is None else found


def _select(magnitudes: Magnitudes, k: int) -> float:
    """The k-th largest; reorders ``magnitudes``."""
    place = len(magnitudes) - k
    magnitudes.partition(place)
    return float(magnitudes[place])


def _bracket(flat: Tensor, k: int) -> tuple[float, float]:
    """Two magnitudes that the k-th largest almost surely lies between, ends included."""
    numel = flat.numel()
    sample = flat[:: numel // SAMPLE].abs().numpy()
    size, share = len(sample), k / numel
    rank, slack = share * size, DEVIATIONS * (size * share * (1 - share)) ** 0.5 + 2
    low, high = max(0, size - int(rank + slack) - 1), size - int(rank - slack)
    sample.partition((low, min(high, size - 1)))
    return float(sample[low]) if low else 0.0, float(sample[high]) if high < size else float("inf")


def _between(flat: Tensor, k: int, low: float, high: float) -> float | None:
    """The answer when it lies in [low, high] and not too many others do; else None."""
    buffer = torch.empty(min(CHUNK, flat.numel()), dtype=flat.dtype)
    inside = np.empty(flat.numel() // 8, dtype=buffer.numpy().dtype)
    held = above = least = 0
    for part in chunks(flat.numel()):
        here = torch.abs(flat[part], out=buffer[: part.stop - part.start]).numpy()
        reaching, exceeding = here >= low, here > high
        above += int(np.count_nonzero(exceeding))
        if low == high:
            least += int(np.count_nonzero(reaching))
            continue
        chosen = here[np.flatnonzero(np.not_equal(reaching, exceeding, out=reaching))]
        if held + len(chosen) > len(inside):
            return None
        inside[held : held + len(chosen)] = chosen
        held += len(chosen)
    if low == high:
        return low if above < k <= least else None
    return _select(inside[:held], k - above) if above < k <= above + held else None


def _by_digits(flat: Tensor, k: int) -> float:
    """The same by counting: magnitudes are ordered as their bits are, sixteen at a time from the top."""
    buffer = torch.empty(min(CHUNK, flat.numel()), dtype=flat.dtype)
    whole = np.uint64 if flat.dtype is torch.float64 else np.uint32
    prefix = 0
    for shift in range(8 * flat.element_size() - _DIGIT, -1, -_DIGIT):
        counts = np.zeros(_DIGITS, dtype=np.int64)
        for part in chunks(flat.numel()):
            here = torch.abs(flat[part], out=buffer[: part.stop - part.start])
            bits = np.right_shift(here.numpy().view(whole), whole(shift))
            digits = bits[bits >> whole(_DIGIT) == prefix] & whole(_DIGITS - 1)
            counts += np.bincount(digits.astype(np.intp), minlength=_DIGITS)
        above = np.cumsum(counts[::-1])
        place = int(np.searchsorted(above, k))
        k -= int(above[place]) - int(counts[_DIGITS - 1 - place])
        prefix = prefix << _DIGIT | _DIGITS - 1 - place
    return float(np.array([prefix], dtype=whole).view(buffer.numpy().dtype)[0])
