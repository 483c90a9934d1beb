"""Which generations of statistics are kept beside the current one, so that a replay need not start from nothing."""

from __future__ import annotations

from collections.abc import Iterable


def kept_generations(present: Iterable[int], current: int, *, every: int, keep: int) -> frozenset[int]:
    """Of the generations that are ``present``: the newest ``keep`` multiples of ``every`` before ``current``.

    ``every`` 0 keeps none. Everything else may be removed.
    """
    if every <= 0 or keep <= 0:
        return frozenset()
    usable = sorted(number for number in present if number < current and number % every == 0)
    return frozenset(usable[-keep:])
