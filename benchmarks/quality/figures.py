"""The figures of merit, from accuracies alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import fmean

from benchmarks.quality.scoring import Score

Scores = Mapping[str, Score]


def mean_accuracy(scores: Scores) -> float:
    """Unweighted mean over tasks. Raises StatisticsError without tasks."""
    return fmean(score.accuracy for score in scores.values())


def standard_error(scores: Scores) -> float:
    """Of ``mean_accuracy``: binomial per task, tasks fixed. Differences of models on the same rows vary less."""
    variances = (score.accuracy * (1 - score.accuracy) / score.rows for score in scores.values())
    return sqrt(sum(variances)) / len(scores)


def share_kept(merged: float, base: float, experts: float) -> float:
    """Share of the experts' gain over the base that a merge keeps; 1: all, 0: none, below 0: worse than the base.

    Raises ValueError when the experts gained nothing.

    Example:
        >>> share_kept(0.75, 0.5, 1.0)
        0.5
    """
    if not experts > base:
        raise ValueError(f"the experts ({experts:.3f}) are no better than the base ({base:.3f}): nothing can be kept")
    return (merged - base) / (experts - base)


def backward_transfer(after_own: Sequence[float], final: Sequence[float]) -> float:
    """Mean change of the accuracy on all tasks but the last, from right after their own fold to the end.

    Both in order of arrival, one figure per task (Lopez-Paz and Ranzato 2017, arXiv 1706.08840, equation 3, which
    divides by the number of tasks minus one as we do). Raises ValueError for fewer than two tasks or other lengths.

    Example:
        >>> backward_transfer([0.5, 1.0, 1.0], [0.25, 1.0, 1.0])
        -0.125
    """
    if len(after_own) != len(final) or len(final) < 2:
        raise ValueError(f"{len(after_own)} and {len(final)} tasks: backward transfer needs at least two")
    return fmean(last - first for first, last in zip(after_own[:-1], final[:-1], strict=True))


def norm_rule(mean_norm: float, merged_norm: float) -> float:
    """Factor that gives a merged task vector the mean norm of its contributions'; 0 for an empty merge."""
    return mean_norm / merged_norm if merged_norm > 0 else 0.0
