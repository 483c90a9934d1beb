"""How much of a newcomer: scores of a few weights become a curve per task, the curves a weight.

MAP (Li et al., arXiv 2406.07529) fits every task's score as ``sigmoid(c' A c + b' c + e)`` in the coefficients
c of the models. For two models that has six unknowns; here the coefficient of the running merge is 1, because a fold
cannot take anything away from what is folded already, and three are left: the score is a quadratic in the newcomer's
weight behind the sigmoid. Plain least squares on logits finds it. Deviation: scores outside of 0..1 (a negative loss)
are fitted as they are, not through a softplus; one dimension needs no genetic search, a fine grid holds the front.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, fsum, log, sqrt

import torch

LOGIT, IDENTITY = "logit", "identity"

EDGE = 0.005
"""Scores nearer than this to 0 or 1 are taken to lie here: their logits have no end, and no probe resolves more."""

GRID = 200
"""Steps of the grid on which the curves are searched."""

Scores = Mapping[str, float]
"""By task; more is better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightRule:
    """How a weight is chosen: between ``lowest`` > 0 and ``highest``, from so many ``evaluations`` (at least 6).

    ``importance``: what the score of a task counts; None: all count alike. ``max_fall``: how far no score may fall
    below that of the merge without the newcomer; None: as far as the others make good for.
    """

    lowest: float
    highest: float
    evaluations: int = 9
    importance: Mapping[str, float] | None = None
    max_fall: float | None = None

    def objective(self, scores: Scores) -> float:
        """The weighted mean of the scores. Raises KeyError: a task of ``importance`` has none."""
        if self.importance is None:
            return fsum(scores.values()) / len(scores)
        whole = fsum(self.importance.values())
        return fsum(share * scores[task] for task, share in self.importance.items()) / whole

    def keeps(self, scores: Scores, before: Scores) -> bool:
        """Whether no task falls too far."""
        return self.max_fall is None or all(scores[task] >= before[task] - self.max_fall for task in before)


@dataclass(frozen=True, slots=True)
class Curve:
    """``link^-1(constant + linear w + quadratic w^2)``. ``residual``: root mean square error, in units of the score."""

    link: str
    constant: float
    linear: float
    quadratic: float
    residual: float

    def at(self, weight: float) -> float:
        """The predicted score."""
        value = self.constant + weight * (self.linear + weight * self.quadratic)
        return value if self.link == IDENTITY else _sigmoid(value)


def trial_weights(rule: WeightRule, own: float) -> list[float]:
    """The weights that are tried before the fit, rising: both bounds, ``own`` if it lies between them, the rest even.

    Two of the evaluations are for others: the merge without the newcomer, and the weight that comes out.
    """
    count = max(2, rule.evaluations - 2)
    step = (rule.highest - rule.lowest) / (count - 1)
    weights = [rule.lowest + number * step for number in range(count - 1)] + [rule.highest]
    if rule.lowest < own < rule.highest and count > 2:
        nearest = min(range(1, count - 1), key=lambda number: abs(weights[number] - own))
        weights[nearest] = own
    return sorted(set(weights))


def fit_curve(points: Sequence[tuple[float, float]]) -> Curve:
    """The least-squares quadratic through (weight, score); through logits where all scores lie in 0..1.

    With fewer than three different weights the smallest coefficients that fit best.
    """
    link = LOGIT if all(0.0 <= score <= 1.0 for _, score in points) else IDENTITY
    values = [score if link == IDENTITY else _logit(score) for _, score in points]
    rows = torch.tensor([[1.0, weight, weight * weight] for weight, _ in points], dtype=torch.float64)
    wanted = torch.tensor(values, dtype=torch.float64).unsqueeze(1)
    constant, linear, quadratic = torch.linalg.lstsq(rows, wanted, driver="gelsd").solution.flatten().tolist()
    curve = Curve(link, constant, linear, quadratic, 0.0)
    left = max(1, len(points) - 3)
    residual = sqrt(fsum((curve.at(weight) - score) ** 2 for weight, score in points) / left)
    return replace(curve, residual=residual)


def best_weight(curves: Mapping[str, Curve], before: Scores, rule: WeightRule, own: float) -> float | None:
    """The weight, of the grid and ``own``, whose predicted objective is greatest; of equals the nearest to ``own``.

    None: at every one of them some task would fall too far.
    """
    allowed = []
    for weight in (*grid(rule), *([own] if rule.lowest <= own <= rule.highest else [])):
        scores = {task: curve.at(weight) for task, curve in curves.items()}
        if rule.keeps(scores, before):
            # What differs by less than this differs by the rounding of the fit.
            allowed.append((-round(rule.objective(scores), 9), abs(weight - own), weight))
    return min(allowed)[2] if allowed else None


def settle(
    measured: Mapping[float, Scores], before: Scores, wanted: float | None, curves: Mapping[str, Curve],
    rule: WeightRule,
) -> float | None:  # fmt: skip
    """The weight that is taken, by what was measured: ``wanted`` if it keeps what the fit promised, else the best.

    The fit has the word as long as its weight scores no worse than the best one tried by more than twice its own
    error: the best of several noisy scores is too good on average. None: every weight that was tried lets a task fall
    too far.
    """
    kept = {weight: rule.objective(scores) for weight, scores in measured.items() if rule.keeps(scores, before)}
    if not kept:
        return None
    best = max(kept, key=lambda weight: (kept[weight], -weight))
    error = rule.objective({task: curve.residual for task, curve in curves.items()})
    if wanted in kept and kept[wanted] >= kept[best] - 2.0 * error:
        return wanted
    return best


def grid(rule: WeightRule) -> list[float]:
    """The weights between the bounds at which curves are looked at, rising."""
    step = (rule.highest - rule.lowest) / GRID
    return [*(rule.lowest + number * step for number in range(GRID)), rule.highest]


def pareto(rows: Sequence[Sequence[float]]) -> list[int]:
    """Numbers of the rows that no other row beats: at least as good everywhere, better somewhere. Of equals the first.

    In O(n^2): meant for a grid.
    """
    found = []
    for number, row in enumerate(rows):
        beaten = any(
            all(theirs >= mine for theirs, mine in zip(other, row, strict=True))
            and (any(theirs > mine for theirs, mine in zip(other, row, strict=True)) or place < number)
            for place, other in enumerate(rows)
            if place != number
        )
        if not beaten:
            found.append(number)
    return found


def thinned(numbers: Sequence[int], most: int) -> list[int]:
    """At most so many of the numbers, the first and the last among them, evenly spread."""
    if len(numbers) <= most:
        return list(numbers)
    return [numbers[round(place * (len(numbers) - 1) / (most - 1))] for place in range(most)]


def _logit(score: float) -> float:
    inside = min(max(score, EDGE), 1.0 - EDGE)
    return log(inside / (1.0 - inside))


def _sigmoid(value: float) -> float:
    return 1.0 / (1.0 + exp(-value)) if value >= 0 else exp(value) / (1.0 + exp(value))
