"""Whether mixes lie on one line, and where: a line of models is interpolated by whoever holds its ends."""

from __future__ import annotations

from collections.abc import Sequence

from mergenode.ports.pool import Weights

TOLERANCE = 1e-12
"""Of a weight. What lies so near to the line is the same model in any element type."""


def positions_between(start: Weights, end: Weights, mixes: Sequence[Weights]) -> list[float] | None:
    """gamma of each mix, with weights = start + gamma (end - start); None when one of them lies beside the line.

    Example:
        >>> positions_between({}, {"*": {"a": 0.5}}, [{}, {"*": {"a": 0.25}}])
        [0.0, 0.5]
    """
    first, last = _flat(start), _flat(end)
    names = sorted(first.keys() | last.keys())
    longest = max(names, key=lambda name: abs(last.get(name, 0.0) - first.get(name, 0.0)), default=None)
    if longest is None:
        return [0.0] * len(mixes) if not any(map(_flat, mixes)) else None
    length = last.get(longest, 0.0) - first.get(longest, 0.0)
    if abs(length) <= TOLERANCE:
        return None
    found = []
    for mix in mixes:
        here = _flat(mix)
        gamma = (here.get(longest, 0.0) - first.get(longest, 0.0)) / length
        for name in here.keys() | first.keys() | last.keys():
            there = first.get(name, 0.0) + gamma * (last.get(name, 0.0) - first.get(name, 0.0))
            if abs(here.get(name, 0.0) - there) > TOLERANCE:
                return None
        found.append(gamma)
    return found


def _flat(weights: Weights) -> dict[tuple[str, str], float]:
    return {(group, content): share for group, shares in weights.items() for content, share in shares.items()}
