"""Slow shifts are seen, chance and single sizes are not."""

from __future__ import annotations

import math
import random
from statistics import median

import pytest

from mergenode.maths.slow_shift import FORGETS, LEAST, MOST, REMEMBERED, SlowShift, deviation


def sizes(count: int, *, seed: int, growth: float = 0.0, start: int = 0, spread: float = 0.1) -> list[float]:
    """Log-normal, ``growth`` per step from ``start`` on."""
    draw = random.Random(seed)
    return [math.exp(draw.gauss(0, spread) + growth * max(0, step - start)) for step in range(count)]


def shifts(values: list[float]) -> list[float | None]:
    shift = SlowShift()
    return [shift.add(value) for value in values]


def test_a_deviation_is_robust_and_bounded() -> None:
    earlier = [1.0, 1.1, 0.9, 1.2, 0.8, 1.05, 0.95, 1000.0]
    logs = [math.log(each) for each in earlier]
    spread = 1.4826 * median(abs(each - median(logs)) for each in logs)
    assert deviation(1.3, earlier) == pytest.approx((math.log(1.3) - median(logs)) / spread)
    assert deviation(1e9, earlier) == MOST and deviation(1e-9, earlier) == -MOST
    assert deviation(1.0, earlier[: LEAST - 1]) is None, "too few"
    assert deviation(0.0, earlier) is None and deviation(math.nan, earlier) is None
    assert deviation(1.0, [1.0] * 20) == 0.0 and deviation(1.1, [1.0] * 20) == pytest.approx(math.log(1.1) / 0.05)


@pytest.mark.parametrize("seed", range(10))
def test_chance_is_no_shift(seed: int) -> None:
    found = shifts(sizes(300, seed=seed))
    assert found[LEAST - 1] is None and found[LEAST] is not None
    assert max(abs(each) for each in found if each is not None) < 2


@pytest.mark.parametrize("growth", [0.02, -0.02])
def test_a_slow_shift_is_seen_long_before_sizes_double(growth: float) -> None:
    found = shifts(sizes(60, seed=1, growth=growth, start=20))
    first = next(step for step, each in enumerate(found) if each is not None and abs(each) > 2)
    assert 20 < first < 45 and math.copysign(1, found[first] or 0.0) == math.copysign(1, growth)


def test_one_that_is_far_out_is_no_shift() -> None:
    found = shifts([*sizes(40, seed=2), 50.0])
    assert found[-1] is not None and abs(found[-1]) < 2


def test_what_is_far_back_does_not_count() -> None:
    late = sizes(2 * REMEMBERED, seed=3)
    one, other = shifts([*[9.0] * 50, *late])[-1], shifts(late)[-1]
    assert one == pytest.approx(other, abs=(1 - FORGETS) ** REMEMBERED * 2 * MOST)
