"""The search along a line: exact on quadratics, and never up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, nan, sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.selectors.contract import Scores, State, Weights
from mergenode.selectors.line_search import all_or_search, search


@dataclass
class Line:
    """An oracle that knows one line."""

    loss: Callable[[float], float]

    def losses(self, start: State, end: State, shares: Sequence[float]) -> Sequence[float]:
        return [self.loss(share) for share in shares]

    def scores(self, state: State, only: frozenset[str] | None = None) -> Scores:
        raise AssertionError

    def distances(self, direction: Weights) -> Mapping[str, float]:
        raise AssertionError


@given(st.floats(-0.5, 1.5), st.floats(0.1, 10.0), st.floats(-3.0, 3.0))
@settings(deadline=None)
def test_the_minimum_of_a_quadratic_is_found(minimum: float, bend: float, height: float) -> None:
    found = search(Line(lambda share: bend * (share - minimum) ** 2 + height), State(), State())
    assert found.share == pytest.approx(min(max(minimum, 0.0), 1.0), abs=1e-5)
    assert found.after <= found.before == pytest.approx(bend * minimum**2 + height)


@pytest.mark.parametrize("minimum", [1e-3, 1e-5])
def test_a_minimum_close_to_the_start_is_found(minimum: float) -> None:
    found = search(Line(lambda share: abs(share - minimum) ** 1.5), State(), State())
    assert 0.0 < found.share < 0.02
    assert found.after < found.before


def test_points_without_a_number_are_passed_over() -> None:
    found = search(Line(lambda share: (share - 1.0) ** 2 if share < 0.3 else nan), State(), State())
    assert 0.125 < found.share < 0.3
    assert search(Line(lambda share: nan if share else 1.0), State(), State()).share == 0.0


def test_where_everything_is_higher_it_stays() -> None:
    assert search(Line(sqrt), State(), State()).share == 0.0


def test_the_whole_line_is_taken_without_a_search_where_it_is_allowed() -> None:
    asked = []

    def loss(share: float) -> float:
        asked.append(share)
        return (share - 0.5) ** 2 + 0.1 * share

    assert all_or_search(Line(loss), State(), State(), 1.0).share == 1.0
    assert asked == [0.0, 1.0]
    assert all_or_search(Line(loss), State(), State(), -inf).share == pytest.approx(0.45)
