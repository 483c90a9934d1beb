"""The k-th largest magnitude of a large tensor, exactly, in little more than one pass.

A sorted sample brackets the answer; one pass counts what lies above the bracket and collects what lies inside, and the
answer is selected from those few (Floyd and Rivest 1975). A bracket that misses or holds too much is noticed by the
counts; then the answer is found 16 bits at a time, in constant memory.
"""

from __future__ import annotations

from math import ceil, sqrt

import torch
from torch import Tensor

from mergenode.maths.norms import CHUNK, chunks

SAMPLE = 1 << 14
"""Elements of the sample: the bracket then holds about 3% of the tensor."""


CROWD = 8
"""A bracket that holds more than one in so many elements is given up."""

_DIGIT = 16


def kth_largest_magnitude(tensor: Tensor, k: int) -> float:
    """The k-th largest of ``|x|`` over the elements x of ``tensor`` (any shape, not empty, finite), counted from 1.

    Exact and deterministic; equal magnitudes count as often as they occur. Allocates ``selection_bytes`` at most.

    Raises:
        ValueError: k is below 1 or above the number of elements.
    """
    flat = tensor.reshape(-1)
    numel = flat.numel()
    if not 1 <= k <= numel:
        raise ValueError(f"no {k}-th largest of {numel} magnitudes")
    if numel <= 4 * SAMPLE:
        return _select(flat.abs(), k)
    low, high = _bracket(flat, k)
    above, inside = 0, []
    for part in chunks(numel):
        magnitude = flat[part].abs()
        above += int(torch.count_nonzero(magnitude > high))
        inside.append(magnitude[(magnitude >= low) & (magnitude <= high)])
        if sum(map(len, inside)) > numel // CROWD:
            return _select_by_bits(flat, k)
    within = torch.cat(inside)
    return _select(within, k - above) if above < k <= above + len(within) else _select_by_bits(flat, k)


def selection_bytes(numel: int, itemsize: int) -> int:
    """Upper bound of what ``kth_largest_magnitude`` allocates at any time."""
    crowd = max(numel // CROWD, 4 * SAMPLE) + CHUNK
    return crowd * (3 * itemsize + 8) + 6 * 8 * CHUNK + (2 << 20)


def _bracket(flat: Tensor, k: int) -> tuple[float, float]:
    """Two magnitudes of the sample between which the answer lies, five standard deviations away on either side."""
    stride = flat.numel() // SAMPLE | 1  # odd: rows of a matrix are seldom of odd length, so no column is preferred
    sample = flat[::stride].abs().sort().values
    share = 1.0 - k / flat.numel()
    position, slack = share * len(sample), 5 * sqrt(share * (1 - share) * len(sample)) + 4
    first = max(0, int(position - slack))
    last = min(len(sample) - 1, ceil(position + slack))
    # At the ends the sample cannot bracket: everything beyond it belongs to the bracket.
    low = 0.0 if first == 0 else float(sample[first])
    return low, float("inf") if last == len(sample) - 1 else float(sample[last])


def _select_by_bits(flat: Tensor, k: int) -> float:
    """Magnitudes are ordered like their bit patterns: the digits of the answer are found from the highest down."""
    pattern, width = (torch.int64, 64) if flat.dtype is torch.float64 else (torch.int32, 32)
    found = 0
    for shift in range(width - _DIGIT, -1, -_DIGIT):
        counts = torch.zeros(1 << _DIGIT, dtype=torch.int64, device=flat.device)
        for part in chunks(flat.numel()):
            bits = flat[part].abs().view(pattern) >> shift
            digits = bits[bits >> _DIGIT == found] & ((1 << _DIGIT) - 1)
            counts += torch.bincount(digits, minlength=1 << _DIGIT)
        reached = counts.flip(0).cumsum(0)
        place = int(torch.count_nonzero(reached < k))
        k -= int(reached[place - 1]) if place else 0
        found = found << _DIGIT | (1 << _DIGIT) - 1 - place
    return float(torch.tensor([found], dtype=pattern).view(flat.dtype))


def _select(magnitudes: Tensor, k: int) -> float:
    return float(torch.kthvalue(magnitudes, magnitudes.numel() - k + 1).values)
