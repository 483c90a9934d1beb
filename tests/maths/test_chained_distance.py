"""Distances from norms alone, against vectors."""

from __future__ import annotations

import math
import random

import pytest

from mergenode.maths.chained_distance import Chain, Mark, between


def norm(vector: list[float]) -> float:
    return math.hypot(*vector)


class Sum:
    """A running sum and the chain that is told of it."""

    def __init__(self, size: int, seed: int = 1) -> None:
        self.draw, self.chain, self.total = random.Random(seed), Chain(), [0.0] * size

    def add(self, step: list[float]) -> None:
        self.total = [a + b for a, b in zip(self.total, step, strict=True)]
        self.chain.step(norm(step), norm(self.total))

    def mark(self, factor: float) -> tuple[Mark, list[float]]:
        return self.chain.mark(factor), [factor * each for each in self.total]


def apart(one: tuple[Mark, list[float]], other: tuple[Mark, list[float]]) -> tuple[float, float]:
    """What the marks say, and what is so."""
    return between(one[0], other[0]), norm([a - b for a, b in zip(one[1], other[1], strict=True)])


def test_one_step_is_exact_whatever_it_is() -> None:
    running = Sum(5)
    before = running.mark(1.0)
    for count in range(1, 20):
        running.add([running.draw.gauss(0, 1) for _ in range(5)])
        after = running.mark(1 / math.sqrt(count))
        said, true = apart(before, after)
        assert said == pytest.approx(true, rel=1e-6, abs=1e-9)
        before = after


def test_steps_that_are_orthogonal_or_all_the_same_are_exact_over_any_number() -> None:
    for step in (lambda place: [float(place == other) for other in range(12)], lambda place: [1.0] * 12):
        running, marks = Sum(12), []
        for place in range(12):
            running.add(step(place))
            marks.append(running.mark(1 / (place + 1)))
        said, true = apart(marks[1], marks[11])
        assert said == pytest.approx(true, rel=1e-6, abs=1e-6)


def test_similar_steps_are_estimated() -> None:
    running, marks = Sum(200), []
    shared = [running.draw.gauss(0, 1) for _ in range(200)]
    for count in range(1, 30):
        running.add([each + running.draw.gauss(0, 1) for each in shared])
        marks.append(running.mark(1 / count))
    for first, last in ((4, 14), (10, 28)):
        said, true = apart(marks[first], marks[last])
        assert said == pytest.approx(true, rel=0.1)


def test_nothing_is_said_across_a_change_that_was_not_told() -> None:
    running = Sum(3)
    running.add([1.0, 0.0, 0.0])
    one = running.mark(1.0)[0]
    running.chain.lost()
    running.chain.step(math.nan, 2.0)
    two = running.mark(1.0)[0]
    running.chain.step(0.5, 2.1)
    three = running.mark(1.0)[0]
    assert math.isnan(between(one, two)) and math.isnan(between(one, three))
    assert between(two, three) == pytest.approx(0.5)
    running.chain.step(4.2, 2.1)  # turned around
    assert math.isnan(between(three, running.mark(1.0)[0]))
