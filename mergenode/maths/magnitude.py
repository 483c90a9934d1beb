"""The k-th largest magnitude of a tensor, without a copy of the tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mergenode.maths.norms import chunks

SAMPLE = 1 << 16
"""Elements that tell where to look, in runs that are evenly spaced."""

FEWEST_RUNS, MOST_RUNS, RUN_EVERY = 32, 512, 1 << 16
"""Runs of the sample: one for so many elements, within limits. Reading a run from a file costs as much as computing."""

DEVIATIONS = 4.0
"""Half the width of the bracket, in standard deviations of the rank in the sample."""

_DIGIT = 16
_DIGITS = 1 << _DIGIT

Magnitudes = NDArray[np.float32] | NDArray[np.float64]


class Pieces(NamedTuple):
    """A flattened tensor that is read piece by piece, never held.

    ``read``: elements from a start to a stop, on the CPU, anywhere. ``bounds``: the pieces, in order, that whole passes
    read; where elements are computed, their last bits may depend on the piece.
    """

    read: Callable[[int, int], Tensor]
    bounds: Sequence[tuple[int, int]]

    @property
    def numel(self) -> int:
        return self.bounds[-1][1]


def pieces_of(tensor: Tensor) -> Pieces:
    """Views of a tensor that is there."""
    flat = tensor.detach().reshape(-1).cpu()
    return Pieces(lambda start, stop: flat[start:stop], [(p.start, p.stop) for p in chunks(len(flat))] or [(0, 0)])


def kth_largest_magnitude(tensor: Tensor, k: int) -> float:
    """The k-th largest of ``|x|`` over the elements x of ``tensor`` (any shape, fp32 or fp64, finite), from 1.

    Exact, so the same on every machine; equal magnitudes count as often as they occur. Works on the CPU in linear time;
    allocates an eighth of the tensor and a few chunks.

    Raises:
        ValueError: k is below 1 or above the number of elements.
    """
    return kth_largest_of(pieces_of(tensor), k)


def kth_largest_of(pieces: Pieces, k: int) -> float:
    """``kth_largest_magnitude`` of a tensor that is read piece by piece.

    A sample, then one pass that looks between two magnitudes of it and selects there; where the sample misleads, passes
    that go digit by digit. What is not finite has no rank: then any number may come back.
    """
    if not 1 <= k <= pieces.numel:
        raise ValueError(f"no {k}-th largest of {pieces.numel} magnitudes")
    if pieces.numel <= SAMPLE:
        return _select(torch.cat([pieces.read(*bounds).abs() for bounds in pieces.bounds]).numpy(), k)
    found = _between(pieces, k, *_bracket(pieces, k))
    return _by_digits(pieces, k) if found is None else found


def _select(magnitudes: Magnitudes, k: int) -> float:
    """The k-th largest; reorders ``magnitudes``. Sorted: a partition takes many times as long where many are equal, as
    the small steps of bf16 weights are."""
    magnitudes.sort()
    return float(magnitudes[-k])


def _bracket(pieces: Pieces, k: int) -> tuple[float, float]:
    """Two magnitudes that the k-th largest almost surely lies between, ends included."""
    numel = pieces.numel
    runs = min(MOST_RUNS, max(FEWEST_RUNS, numel // RUN_EVERY))
    length = SAMPLE // runs
    starts = [run * (numel - length) // (runs - 1) for run in range(runs)]
    drawn = torch.stack([pieces.read(start, start + length) for start in starts]).abs_().numpy()
    sample = drawn.reshape(-1).copy()
    size, share = len(sample), k / numel
    rank = min(size, max(1, round(share * size)))
    # Neighbours may be alike: what runs differ by tells more about the error than the number of elements.
    reaching = (drawn >= _select(sample, rank)).sum(axis=1)
    spread = max(size * share * (1 - share), runs * float(reaching.var()))
    slack = DEVIATIONS * spread**0.5 + 2
    low, high = max(0, size - int(rank + slack) - 1), size - int(rank - slack)
    return float(sample[low]) if low else 0.0, float(sample[high]) if high < size else float("inf")


def _between(pieces: Pieces, k: int, low: float, high: float) -> float | None:
    """The answer when it lies in [low, high] and not too many lie between; else None.

    The ends are counted apart: where many magnitudes are equal, they are such ones.
    """
    inside: Magnitudes | None = None
    held = above = at_high = at_low = 0
    for bounds in pieces.bounds:
        here = pieces.read(*bounds).abs().numpy()
        inside = np.empty(pieces.numel // 8, dtype=here.dtype) if inside is None else inside
        above += int(np.count_nonzero(here > high))
        at_high += int(np.count_nonzero(here == high))
        if low == high:
            continue
        at_low += int(np.count_nonzero(here == low))
        chosen = here[np.flatnonzero((here > low) & (here < high))]
        if held + len(chosen) > len(inside):
            return None
        inside[held : held + len(chosen)] = chosen
        held += len(chosen)
    if above < k <= above + at_high:
        return high
    if inside is not None and above + at_high < k <= above + at_high + held:
        return _select(inside[:held], k - above - at_high)
    return low if above + at_high + held < k <= above + at_high + held + at_low else None


def _by_digits(pieces: Pieces, k: int) -> float:
    """The same by counting: magnitudes are ordered as their bits are, sixteen at a time from the top."""
    kind = pieces.read(0, 1).numpy().dtype
    whole = np.uint64 if kind == np.float64 else np.uint32
    prefix = 0
    for shift in range(8 * kind.itemsize - _DIGIT, -1, -_DIGIT):
        counts = np.zeros(_DIGITS, dtype=np.int64)
        for bounds in pieces.bounds:
            bits = np.right_shift(pieces.read(*bounds).abs().numpy().view(whole), whole(shift))
            digits = bits[bits >> whole(_DIGIT) == prefix] & whole(_DIGITS - 1)
            counts += np.bincount(digits.astype(np.intp), minlength=_DIGITS)
        above = np.cumsum(counts[::-1])
        place = min(int(np.searchsorted(above, k)), _DIGITS - 1)
        k -= int(above[place]) - int(counts[_DIGITS - 1 - place])
        prefix = prefix << _DIGIT | _DIGITS - 1 - place
    return float(np.array([prefix], dtype=whole).view(kind)[0])
