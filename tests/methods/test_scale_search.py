"""The search for a scale: few evaluations, bounded, a function of the scores alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.methods.scale_search import Found, SearchLimits, search_scale

LIMITS = SearchLimits()


def peaked(at: float):
    return lambda scale: -abs(scale - at)


@pytest.mark.parametrize("best", [0.2, 0.35, 0.6, 0.9, 1.0, 1.25, 1.7, 2.4, 2.9])
@pytest.mark.parametrize("norm_rule", [None, 0.4, 2.0])
def test_the_best_scale_of_a_peak_is_found(best: float, norm_rule: float | None) -> None:
    found = search_scale(peaked(best), own=1.0, norm_rule=norm_rule, limits=LIMITS)
    assert abs(found.scale - best) < 0.2 * max(best, 0.5)
    assert len(found.points) <= LIMITS.evaluations


def test_more_evaluations_come_closer() -> None:
    errors = [
        abs(search_scale(peaked(1.37), own=1.0, norm_rule=0.5, limits=SearchLimits(evaluations=n)).scale - 1.37)
        for n in (4, 8, 14)
    ]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.03


def test_own_and_norm_rule_are_tried_first() -> None:
    found = search_scale(lambda scale: 0.5, own=0.3, norm_rule=0.7, limits=LIMITS)
    assert [scale for scale, _ in found.points[:2]] == [0.3, 0.7]
    assert found.scale == 0.3, "of equal scores the method's own wins"


def test_one_evaluation_is_that_of_the_own_scale() -> None:
    assert search_scale(peaked(9.0), own=5.0, norm_rule=2.0, limits=SearchLimits(evaluations=1)) == Found(
        5.0, ((5.0, -4.0),)
    )


def test_what_the_score_raises_is_passed_on() -> None:
    def broken(scale: float) -> float:
        raise ZeroDivisionError(scale)

    with pytest.raises(ZeroDivisionError):
        search_scale(broken, own=1.0, norm_rule=None, limits=LIMITS)


@given(
    scores=st.lists(st.integers(-3, 3), min_size=1, max_size=40),
    own=st.floats(0.05, 4.0),
    norm_rule=st.none() | st.floats(1e-6, 1e6),
    limits=st.builds(
        SearchLimits, lowest=st.floats(0.01, 1.0), highest=st.floats(1.0, 9.0), evaluations=st.integers(1, 12)
    ),
)
@settings(deadline=None, max_examples=200)
def test_any_scores_give_a_bounded_choice_that_does_not_change(
    scores: list[int], own: float, norm_rule: float | None, limits: SearchLimits
) -> None:
    def run() -> Found:
        asked: list[float] = []

        def score(scale: float) -> float:
            assert scale not in asked, "asked twice"
            asked.append(scale)
            return float(scores[(len(asked) - 1) % len(scores)])

        return search_scale(score, own=own, norm_rule=norm_rule, limits=limits)

    found = run()
    assert found == run()
    assert 1 <= len(found.points) <= limits.evaluations
    assert all(scale == own or limits.lowest <= scale <= limits.highest for scale, _ in found.points)
    assert dict(found.points)[found.scale] == max(score for _, score in found.points)
