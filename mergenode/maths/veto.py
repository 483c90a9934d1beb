"""Which entries of an update would harm a capability, by the second-order change of its loss.

A capability is known by the diagonal F of its Fisher at the weights a where it is at home. Near a its loss is about
``L(a) + 1/2 sum_j F_j (theta_j - a_j)^2``: at an optimum the Fisher of a log-likelihood is its Hessian, and off the
diagonal nothing is known. What an update d adds to that at the base b is, entry by entry,

    rise_j = F_j ((b_j - a_j) d_j + 1/2 d_j^2)

The threshold is one number for the whole model, found in one pass: rises are counted in bins with exact edges, and
integers do not depend on the order in which they are added up, so neither do the vetoes.

Source: RCP-Merging, as its code has it: an entry enters where ``g theta_D + lambda F (theta_R - theta_D)^2 <= 0``, g
the gradient on prompts of the domain, lambda 1000. Deviation: nobody here has the contributor's data, so the gain of an
entry is not weighed against its harm; a budget for the harm takes the place of lambda.
"""

from __future__ import annotations

from math import inf, ldexp

import torch
from torch import Tensor

from mergenode.maths.norms import chunks, squared_norm, wide_buffer

STEPS = 8
"""Bins per power of two: a rise is known to one part in 16 to 8 of itself."""

_LOWEST, _HIGHEST = -1021, 1024
BINS = (_HIGHEST - _LOWEST + 1) * STEPS
_LEAST, _MOST = torch.finfo(torch.float64).tiny, torch.finfo(torch.float64).max
"""Rises below the least are none: numbers so small have no exact edges, and some processors have none at all."""


def predicted_rise(fisher: Tensor, delta: Tensor, away: Tensor | None = None) -> Tensor:
    """``rise`` of every entry, fp64, in units of the loss. All 1-D of one length; ``fisher`` >= 0, any float dtype.

    ``away``: b - a; None: the capability is at home in the base. Every operation is rounded once, in one order, so the
    bits are the same on every machine. Entries of ``delta`` that are not finite have no rise: others refuse them.
    """
    wide = delta.to(torch.float64)
    half = wide * 0.5
    if away is not None:
        half += away.to(torch.float64)
    rise = half.mul_(wide).mul_(fisher.to(torch.float64))
    # 0 x infinity: nothing is known of an entry without a Fisher, nothing is vetoed there
    return rise.nan_to_num_(nan=0.0, posinf=_MOST, neginf=-_MOST).masked_fill_(~torch.isfinite(wide), 0.0)


def count_rises(fisher: Tensor, delta: Tensor, away: Tensor | None = None) -> Tensor:
    """How many entries fall into each bin of rises, int64 (BINS,), on the CPU; entries without a rise into none."""
    found = torch.zeros(BINS, dtype=torch.int64)
    for part in chunks(delta.numel()):
        rise = predicted_rise(fisher[part], delta[part], None if away is None else away[part])
        rise = rise[rise >= _LEAST]
        mantissa, exponent = torch.frexp(rise)
        # mantissa in [0.5, 1): 2 STEPS (mantissa - 0.5) is exact, and so is its floor
        step = mantissa.sub_(0.5).mul_(2 * STEPS).to(torch.int64)
        bins = (exponent.to(torch.int64) - _LOWEST).mul_(STEPS).add_(step)
        found += torch.bincount(bins, minlength=BINS).cpu()
    return found


def lower_edge(bin_number: int) -> float:
    """The smallest rise of a bin; exact. Infinity above the last one."""
    octave, step = divmod(bin_number, STEPS)
    try:
        return ldexp(0.5 + step / (2 * STEPS), octave + _LOWEST)
    except OverflowError:
        return inf


def total_rise(counts: Tensor, below: float = inf) -> float:
    """The most that the entries with a rise under ``below`` add up to: each counts as the upper edge of its bin."""
    total = 0.0
    for number in counts.nonzero().flatten().tolist():
        if lower_edge(number) < below:
            total += int(counts[number]) * min(lower_edge(number + 1), _MOST)
    return total


def veto_threshold(counts: Tensor, *, max_rise: float | None = None, max_share: float | None = None) -> float:
    """The rise from which on entries are vetoed, so that what is left adds up to no more than the budget.

    The budget is ``max_rise``, in units of the loss, or ``max_share`` of the whole rise, whichever is less; None: no
    such bound. The entries that harm most go first, whole bins at a time. Infinity: nothing is vetoed.
    """
    whole = total_rise(counts)
    budget = min(inf if max_rise is None else max_rise, inf if max_share is None else max_share * whole)
    total = 0.0
    for number in counts.nonzero().flatten().tolist():
        total += int(counts[number]) * min(lower_edge(number + 1), _MOST)
        if total > budget:
            return lower_edge(number)
    return inf


def veto(
    delta: Tensor, fisher: Tensor, threshold: float, *, away: Tensor | None = None, tuned: Tensor | None = None,
    base: Tensor | None = None,
) -> float:  # fmt: skip
    """Set the vetoed entries of ``delta`` to 0, in place, and those of ``tuned`` to ``base``; their squared norm.

    All 1-D of one length. Takes ``veto_bytes`` of memory.
    """
    if threshold == inf:
        return 0.0
    lost = 0.0
    for part in chunks(delta.numel()):
        rise = predicted_rise(fisher[part], delta[part], None if away is None else away[part])
        harmful = rise >= threshold
        lost += squared_norm(delta[part][harmful])
        delta[part].masked_fill_(harmful, 0.0)
        if tuned is not None and base is not None:
            tuned[part].copy_(torch.where(harmful, base[part], tuned[part]))
    return lost


def veto_bytes(numel: int) -> int:
    """Most bytes that ``count_rises`` or ``veto`` allocates for so many entries."""
    chunk = wide_buffer(numel, torch.device("meta")).numel()
    return chunk * 8 * 8 + BINS * 8 * 2
