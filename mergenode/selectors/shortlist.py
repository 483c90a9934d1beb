"""Which candidates have to be read, when estimates of their scores and bounds of the errors are known.

The true a_i lies in [estimate - error, estimate + error]; the smallest is the best. A candidate whose lower end lies
above the k-th smallest upper end has k others before it, whatever the truth is. All others have to be scored exactly.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import inf, isfinite


def shortlist(
    estimates: Mapping[str, float],
    errors: Mapping[str, float],
    wanted: int,
    *,
    ceiling: float = inf,
    always: Collection[str] = (),
) -> tuple[str, ...]:
    """The contents to score exactly so that the ``wanted`` smallest true scores are among them; most promising first.

    If every interval holds the truth, that is certain; if they all hold it with probability p, it is with probability
    p (``bound_confidence``). Of equal true scores those with the smaller digests count, as everywhere: intervals that
    touch are read. By layer group: the union of the lists of all groups.

    Args:
        estimates: content -> estimate of a_i.
        errors: content -> bound of its error, >= 0. An exact score has 0. One that is left out, or an estimate that is
            no number, says nothing: it is read.
        wanted: how many of the best; 1 for the linear problem of Frank-Wolfe, k for the soft variant.
        ceiling: what lies above is of no interest. 0 for the linear problem: the base has a = 0.
        always: what is read whatever its estimate: everything that has weight.
    """
    intervals = {vertex: _interval(value, errors.get(vertex, inf)) for vertex, value in estimates.items()}
    uppers = sorted(upper for _, upper in intervals.values())
    bar = min(uppers[wanted - 1] if 0 < wanted <= len(uppers) else inf, ceiling)
    kept = [vertex for vertex, (lower, _) in intervals.items() if lower <= bar and wanted > 0]
    needed = {*kept, *(vertex for vertex in always if vertex in estimates)}
    return tuple(sorted(needed, key=lambda vertex: (intervals[vertex], vertex)))


def unread(
    estimates: Mapping[str, float],
    errors: Mapping[str, float],
    exact: Mapping[str, float],
    wanted: int,
    *,
    ceiling: float = inf,
) -> tuple[str, ...]:
    """What is still to be read once some scores are known exactly: with each of them the list gets shorter.

    Empty: the best of ``exact`` are the best of all.
    """
    values = {**estimates, **exact}
    bounds = {**errors, **dict.fromkeys(exact, 0.0)}
    return tuple(vertex for vertex in shortlist(values, bounds, wanted, ceiling=ceiling) if vertex not in exact)


def bound_confidence(confidence: float, candidates: int) -> float:
    """With which probability each single bound has to hold, so that all do with this ``confidence`` (union bound)."""
    return 1.0 - (1.0 - confidence) / max(candidates, 1)


def _interval(estimate: float, error: float) -> tuple[float, float]:
    if not isfinite(estimate) or not 0.0 <= error < inf:
        return -inf, inf
    return estimate - error, estimate + error
