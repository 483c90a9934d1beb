"""Where on a line between two states the loss is lowest, from a few evaluations."""

from __future__ import annotations

from dataclasses import dataclass

from mergenode.selectors.contract import Oracle, State
from mergenode.selectors.steps import line_candidates, lowest, refined

REFINEMENTS = 4
"""Further points that are tried as long as none is better than the start."""

CLOSER = 16.0
"""How much closer to the start the next of them lies, where no parabola says where to look."""


@dataclass(frozen=True, slots=True)
class Found:
    """``share`` of the way to the end of the line, 0 where no point is better; the losses at the start and there."""

    share: float
    before: float
    after: float


def search(oracle: Oracle, start: State, end: State) -> Found:
    """The best of a few points of the line, and of the minimum of the parabola through the best three of them.

    The loss there is never above that at the start. Losses that are no numbers are passed over.
    """
    shares = list(line_candidates())
    losses = list(oracle.losses(start, end, shares))
    for _ in range(REFINEMENTS):
        finer = refined(shares, losses)
        if finer is None:
            if lowest(shares, losses) > 0.0:
                break
            finer = min(share for share in shares if share > 0.0) / CLOSER
        shares.append(finer)
        losses += oracle.losses(start, end, [finer])
        if lowest(shares, losses) > 0.0:
            break
    best = lowest(shares, losses)
    return Found(best, losses[0], losses[shares.index(best)])


def all_or_search(oracle: Oracle, start: State, end: State, allowed: float) -> Found:
    """The whole line where the loss at its end is below ``allowed``, which may be above that at the start."""
    before, after = oracle.losses(start, end, [0.0, 1.0])
    return Found(1.0, before, after) if after < max(before, allowed) else search(oracle, start, end)
