"""How far a running sum is from what it was several steps ago, from norms that every step told."""

from __future__ import annotations

from math import exp, isfinite, log, nan, sqrt
from typing import NamedTuple


class Mark(NamedTuple):
    """A scaled sum a S: its norm ||a S||, ||S||, and the chain up to here with the number of times that it broke."""

    shown: float
    total: float
    chain: float
    breaks: int


class Chain:
    """Steps S' = S + k, told by ||k|| and ||S'||.

    One step: <k, S> = (||S'||^2 - ||S||^2 - ||k||^2) / 2, and the distance of a S and a' S' is exact. Over several
    steps the product with an earlier S_0 is estimated as if every k reached S_0 only through the S before it,
    <S', S_0> = <S, S_0> (1 + <k, S> / ||S||^2): right when what two steps have in common is what the sum already
    holds, which is what a merge of similar updates is made of.
    """

    def __init__(self) -> None:
        self.total = 0.0
        self._chain = 0.0
        self._breaks = 0

    def step(self, added: float, total: float) -> None:
        """||k|| and ||S'||, not negative; NaN: not known."""
        before, self.total = self.total, total
        if before == 0:  # the origin has no direction
            self._chain = 0.0
            return
        factor = 1 + (total**2 - before**2 - added**2) / (2 * before**2)
        if isfinite(factor) and factor > 0:
            self._chain += log(factor)
        else:
            self.lost()

    def lost(self) -> None:
        """The sum was changed in a way that is not told."""
        self._chain = 0.0
        self._breaks += 1

    def mark(self, factor: float) -> Mark:
        """The scaled sum of now; ``factor``: a, not negative."""
        return Mark(factor * self.total, self.total, self._chain, self._breaks)


def between(before: Mark, after: Mark) -> float:
    """Distance of two scaled sums of one ``Chain``; NaN where a change in between was not told."""
    if before.total == 0 or after.total == 0:
        return abs(after.shown - before.shown)
    if before.breaks != after.breaks:
        return nan
    cosine = min(1.0, exp(min(after.chain - before.chain, 700.0)) * before.total / after.total)
    square = (before.shown - after.shown) ** 2 + 2 * before.shown * after.shown * (1 - cosine)
    return sqrt(max(0.0, square)) if isfinite(square) else nan
