"""Which candidates have to be read, when estimates of their scores and bounds of the errors are known.

The true a_i lies in [estimate - error, estimate + error]; the smallest is the best. Some are scored exactly, the most
promising first. The k-th best of these is no better than the k-th best of all: whose lower end lies above it is not
among the k best, whatever its truth is. All others are scored as well.

What can go wrong is little: one of the k best has an estimate that is too high by more than its error. These are k
candidates, whatever the size of the pool, and one side of their errors (``reach``). Upper ends are never asked: the
smallest of a thousand would be one whose estimate is too low.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, isfinite
from statistics import NormalDist


def unread(
    estimates: Mapping[str, float],
    errors: Mapping[str, float],
    exact: Mapping[str, float],
    wanted: int,
    *,
    ceiling: float = inf,
) -> tuple[str, ...]:
    """What may be among the ``wanted`` smallest true scores and is not known exactly; the most promising first.

    Empty: the best of ``exact`` are the best of all. Until then read some from the front and ask again. Of equal true
    scores those with the smaller digests count, as everywhere: what touches the bar is read. By layer group: the union
    of the lists of all groups.

    Args:
        estimates: content -> estimate of a_i.
        errors: content -> bound of its error, >= 0. One that is left out, or an estimate that is no number, says
            nothing: it is read.
        exact: content -> a_i, of those that were read.
        wanted: how many of the best; 1 for the linear problem of Frank-Wolfe, k for the soft variant.
        ceiling: what lies above is of no interest. 0 for the linear problem: the base has a = 0.
    """
    known = sorted(exact.values())
    bar = min(known[wanted - 1] if 0 < wanted <= len(known) else inf, ceiling)
    lowers = {
        vertex: _lower(value, errors.get(vertex, inf)) for vertex, value in estimates.items() if vertex not in exact
    }
    open_ = (vertex for vertex, lower in lowers.items() if lower <= bar and wanted > 0)
    return tuple(sorted(open_, key=lambda vertex: (lowers[vertex], vertex)))


def reach(confidence: float, wanted: int) -> float:
    """Half width of intervals in standard errors with which the ``wanted`` best are found, with this probability.

    Union bound over ``wanted`` normal errors, one side each; k for each layer group where there are groups.
    """
    return NormalDist().inv_cdf(1.0 - (1.0 - confidence) / max(wanted, 1))


def _lower(estimate: float, error: float) -> float:
    return estimate - error if isfinite(estimate) and 0.0 <= error < inf else -inf
