"""How much the pieces of a tensor changed, in length and in direction, and their ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mergenode.maths.norms import CHUNK


class Pieces(NamedTuple):
    """A tensor as a matrix (rows, columns) that is cut into its columns, or into its rows."""

    rows: int
    columns: int
    by_rows: bool

    @property
    def number(self) -> int:
        return self.rows if self.by_rows else self.columns

    @property
    def single(self) -> bool:
        """True when a piece is one element: it has a length, but no direction."""
        return (self.columns if self.by_rows else self.rows) == 1

    def blocks(self) -> Sequence[slice]:
        """Consecutive rows that have about ``CHUNK`` elements together."""
        step = max(1, CHUNK // max(1, self.columns))
        return [slice(start, min(start + step, self.rows)) for start in range(0, self.rows, step)]

    def spread(self, values: Tensor, block: slice) -> Tensor:
        """One number per piece, in a shape that multiplies the elements of a block of rows."""
        return values[block, None] if self.by_rows else values


def changes(pieces: Pieces, base: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    """| |a + t| - |a| | and 1 - cos(a + t, a) of every piece a of ``base`` and t of ``delta``, fp64.

    Both from |a|^2, |t|^2 and <a, t>: differences of nearly equal norms would keep no digits of a small change. The
    numerator of 1 - cos is the Gram determinant |a|^2 |t|^2 - <a, t>^2, which is that of a and a + t. A piece that did
    not change has 0 and 0; one that was or became 0 has the direction 1.

    Args:
        base, delta: (rows, columns), not modified. Allocates three blocks of rows in fp64.
    """
    axis = 1 if pieces.by_rows else 0
    aa, tt, at = (torch.zeros(pieces.number, dtype=torch.float64, device=delta.device) for _ in range(3))
    for block in pieces.blocks():
        a, t = base[block].double(), delta[block].double()
        here = block if pieces.by_rows else slice(None)
        for total, product in ((aa, a * a), (tt, t * t), (at, a * t)):
            total[here].add_(product.sum(dim=axis))
    ww = (aa + 2 * at + tt).clamp_(min=0)
    a_norm, w_norm = aa.sqrt(), ww.sqrt()
    length = (2 * at + tt).abs_() / (a_norm + w_norm)
    product, inner = a_norm * w_norm, aa + at
    determinant = (aa * tt - at * at).clamp_(min=0)
    aside = torch.where(inner > 0, determinant / ((product + inner) * product), 1 - inner / product)
    aside = torch.where(product > 0, aside, torch.ones_like(aside))
    still = tt == 0
    return length.masked_fill_(still, 0.0), aside.masked_fill_(still, 0.0)


def relative_ranks(values: Tensor) -> Tensor:
    """The share of ``values`` (n,) that are smaller, from 0 to (n - 1) / n; equal values have equal ranks. fp64."""
    ordered = values.sort().values
    smaller = torch.searchsorted(ordered, values, right=False)
    return smaller.double() / max(1, len(values))
