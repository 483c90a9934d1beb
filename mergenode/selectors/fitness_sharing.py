"""Who leaves a bounded pool: the one whose merits the others have as well.

M2N2 (METHODS.md 3.20): every sample is a resource that those who do well on it share. The fitness of candidate i is
sum_j s_ij / (sum_k s_kj), over samples j, with s_ij >= 0 how well it does on sample j. Copies divide what they earn, a
model that is alone with its skill keeps all of it. The lowest share is dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import fsum

from mergenode.selectors.contract import LARGEST


@dataclass(frozen=True, slots=True)
class Evicted:
    """One that leaves, and its share of all samples when it did; ``None``: its scores were unusable."""

    vertex: str
    share: float | None


def shares(scores_by_sample: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Content -> sum over the samples of its part of what all earn there.

    The shares add up to the number of samples where somebody earns.
    """
    totals = [fsum(column) for column in zip(*scores_by_sample.values(), strict=True)]
    return {
        vertex: fsum(score / total for score, total in zip(scores, totals, strict=True) if total > 0.0)
        for vertex, scores in scores_by_sample.items()
    }


def evict(
    scores_by_sample: Mapping[str, Sequence[float]], limit: int, *, keep: Collection[str] = ()
) -> tuple[Evicted, ...]:
    """Who leaves, in this order, until ``limit`` are left. Each departure changes the shares of the rest.

    Candidates whose scores are not finite, below 0, or not as many as most have, leave first. Of equal shares the
    largest digest leaves. The order of the mapping changes nothing.

    Args:
        scores_by_sample: content -> score per sample, >= 0, all for the same samples.
        limit: how many may stay.
        keep: who stays whatever its share (what is in the running merge, say); more than ``limit`` of them is allowed.
    """
    lengths = Counter(len(scores) for scores in scores_by_sample.values())
    usual = max(lengths, key=lambda length: (lengths[length], length), default=0)
    good = {vertex: scores for vertex, scores in scores_by_sample.items() if _usable(scores, usual)}
    bad = sorted((vertex for vertex in scores_by_sample if vertex not in good and vertex not in keep), reverse=True)
    surplus = max(len(scores_by_sample) - limit, 0)
    leaving = [Evicted(vertex, None) for vertex in bad[:surplus]]
    while len(leaving) < surplus:
        current = shares(good)
        free = [vertex for vertex in good if vertex not in keep]
        if not free:
            break
        worst = min(sorted(free, reverse=True), key=lambda vertex: current[vertex])
        leaving.append(Evicted(worst, current[worst]))
        del good[worst]
    return tuple(leaving)


def _usable(scores: Sequence[float], length: int) -> bool:
    return len(scores) == length and all(0.0 <= score <= LARGEST for score in scores)
