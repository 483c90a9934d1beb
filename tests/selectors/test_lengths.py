from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.selectors.lengths import shortening

NORMS = st.dictionaries(st.text(max_size=3), st.floats(1e-6, 1e6), min_size=1)


def test_what_is_longer_than_twice_the_median_is_shortened_to_that() -> None:
    assert shortening({"a": 1.0, "b": 1.2, "c": 0.9, "d": 20.0}, 2.0) == {"d": pytest.approx(0.1)}


def test_of_two_the_shorter_one_is_usual() -> None:
    assert shortening({"a": 1.0, "b": 20.0}, 2.0) == {"b": pytest.approx(0.1)}


def test_nobody_is_too_long() -> None:
    assert shortening({"a": 1.0, "b": 20.0}, None) == shortening({"a": 1.0}, 2.0) == shortening({}, 2.0) == {}


def test_what_says_nothing_is_left_alone() -> None:
    norms = {"zero": 0.0, "nan": nan, "endless": inf, "a": 1.0, "b": 1.0, "c": 9.0}
    assert shortening(norms, 3.0) == {"c": pytest.approx(1 / 3)}


@settings(deadline=None)
@given(NORMS, st.floats(1.0, 100.0))
def test_no_length_is_above_the_bound_and_no_honest_one_is_changed(norms: dict[str, float], longest: float) -> None:
    factors = shortening(norms, longest)
    middle = sorted(norms.values())[(len(norms) - 1) // 2]
    for vertex, norm in norms.items():
        assert norm * factors.get(vertex, 1.0) <= longest * middle * (1 + 1e-12)
        assert (vertex in factors) == (norm > longest * middle)


@settings(deadline=None)
@given(NORMS, st.floats(1e3, 1e6))
def test_a_longer_one_gets_no_longer_by_growing(norms: dict[str, float], times: float) -> None:
    grown = max(norms, key=lambda vertex: (norms[vertex], vertex))
    longer = {**norms, grown: norms[grown] * times}
    if len(norms) > 1:
        before, after = shortening(norms, 2.0), shortening(longer, 2.0)
        assert longer[grown] * after.get(grown, 1.0) >= norms[grown] * before.get(grown, 1.0) * (1 - 1e-12)
        assert longer[grown] * after.get(grown, 1.0) <= 2.0 * max(sorted(norms.values())[:-1]) * (1 + 1e-12)
