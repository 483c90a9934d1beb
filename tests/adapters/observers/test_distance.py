"""The distance of two versions from norms alone: known, or said not to be."""

from __future__ import annotations

from math import inf, isnan, nan, sqrt

import pytest

from mergenode.adapters.observers.drift_instruments import distance


def test_one_fold_is_exact_by_the_law_of_cosines() -> None:
    """S = (3, 0), S' = (3, 4): what was added has norm 4, and versions are the sums themselves."""
    assert distance((3.0, 3.0), (5.0, 5.0), [4.0]) == pytest.approx(4.0)
    assert distance((1.5, 3.0), (2.5, 5.0), [4.0]) == pytest.approx(sqrt(4.0))


@pytest.mark.parametrize("unknown", [nan, inf])
def test_what_is_not_known_is_no_distance_of_zero(unknown: float) -> None:
    assert isnan(distance((3.0, unknown), (5.0, 5.0), [4.0]))
    assert isnan(distance((3.0, 3.0), (5.0, 5.0), [unknown]))
    assert isnan(distance((unknown, 3.0), (5.0, 5.0), [4.0]))
    assert isnan(distance((3.0, 3.0), (5.0, 5.0), None))
