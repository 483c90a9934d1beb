"""The projection is the nearest point, and projecting twice changes nothing."""

from __future__ import annotations

import itertools
from math import fsum
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.selectors.simplex import project_to_simplex

coordinates = st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=1, max_size=7)


def nearest(values: list[float]) -> list[float]:
    """By trying every set of coordinates that may stay positive."""
    best: tuple[float, list[float]] | None = None
    for count in range(1, len(values) + 1):
        for kept in itertools.combinations(range(len(values)), count):
            threshold = (fsum(values[i] for i in kept) - 1.0) / count
            point = [values[i] - threshold if i in kept else 0.0 for i in range(len(values))]
            distance = fsum((a - b) ** 2 for a, b in zip(point, values, strict=True))
            if min(point) >= 0.0 and (best is None or distance < best[0]):
                best = distance, point
    assert best is not None
    return best[1]


@given(st.lists(st.floats(-3, 3, allow_nan=False), min_size=1, max_size=6))
@settings(deadline=None, max_examples=60)
def test_it_is_the_nearest_point(values: list[float]) -> None:
    assert project_to_simplex(values) == pytest.approx(nearest(values), abs=1e-9)


@given(coordinates)
@settings(deadline=None)
def test_the_result_is_on_the_simplex_and_stays_where_it_is(values: list[float]) -> None:
    point = project_to_simplex(values)
    assert all(value >= 0.0 for value in point)
    assert fsum(point) == pytest.approx(1.0, abs=1e-9)
    assert project_to_simplex(point) == pytest.approx(point, abs=1e-15)


@given(coordinates, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_coordinates_changes_no_bit(values: list[float], shuffle: Random) -> None:
    order = list(range(len(values)))
    shuffle.shuffle(order)
    point = project_to_simplex(values)
    assert project_to_simplex([values[i] for i in order]) == tuple(point[i] for i in order)


@given(coordinates, st.floats(-1e3, 1e3))
@settings(deadline=None)
def test_a_common_shift_changes_nothing(values: list[float], shift: float) -> None:
    shifted = project_to_simplex([value + shift for value in values])
    assert shifted == pytest.approx(project_to_simplex(values), abs=1e-8)


def test_a_point_of_the_simplex_is_its_own_projection() -> None:
    assert project_to_simplex([0.25, 0.75, 0.0]) == (0.25, 0.75, 0.0)


def test_far_away_it_is_a_corner() -> None:
    assert project_to_simplex([1e300, -1e300, 0.0]) == (1.0, 0.0, 0.0)


def test_nothing_is_projected_to_nothing() -> None:
    assert project_to_simplex([]) == ()


def test_other_totals_scale_along() -> None:
    values = np.array([0.3, -2.0, 1.7])
    assert project_to_simplex(list(4.0 * values), 4.0) == pytest.approx(
        [4.0 * value for value in project_to_simplex(list(values))]
    )
