"""Rates and remaining times over simulated schedules: whatever is told, they stay within what really happened."""

from __future__ import annotations

from itertools import pairwise
from math import isclose

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.maths.pace import (
    GRACE_SECONDS,
    KNOWN_SECONDS,
    LONGEST_SECONDS,
    SILENT_SECONDS,
    SLOWER,
    Pace,
    advanced,
    begun,
)

INTERVALS = st.lists(st.tuples(st.just(0.0) | st.floats(1e-3, 500.0), st.integers(0, 10**9)), min_size=1, max_size=60)
"""(seconds, work) one after the other."""


def run(pace: Pace, now: float, steps: list[tuple[float, int]]) -> tuple[Pace, float]:
    for seconds, work in steps:
        now += seconds
        pace = advanced(pace, now, pace.done + work)
    return pace, now


@settings(deadline=None)
@given(st.lists(st.floats(0.05, 8.0), min_size=4, max_size=80), st.integers(1_000, 10**9), st.integers(0, 10**12))
def test_a_steady_rate_is_found_whenever_it_is_told_of(gaps: list[float], rate: int, before: int) -> None:
    pace, now, work = begun(100.0, before, before), 100.0, 0.0
    for gap in gaps:
        now, work = now + gap, work + gap * rate
        pace = advanced(pace, now, before + int(work))
    if now - 100.0 < KNOWN_SECONDS:
        assert pace.rate() is None
        return
    assert isclose(pace.rate() or 0, rate, rel_tol=0.05)
    left = pace.remaining(now, before + int(work) + 100 * rate)
    assert left is not None and isclose(left, 100.0, rel_tol=0.05)
    assert isclose(pace.remaining(now + 5.0, before + int(work) + 100 * rate) or 0, left - 5.0, abs_tol=1e-6)


@settings(deadline=None)
@given(INTERVALS, st.integers(0, 10**13))
def test_the_rate_is_one_that_happened_and_the_time_left_is_finite_or_unknown(
    steps: list[tuple[float, int]], total: int
) -> None:
    pace, now = begun(0.0), 0.0
    seen: list[float] = []
    work = since = 0.0
    for seconds, amount in steps:
        now, since, work = now + seconds, since + seconds, work + amount
        if amount and since:
            seen.append(work / since)
            work = since = 0.0
        pace = advanced(pace, now, pace.done + amount)
        rate, left = pace.rate(), pace.remaining(now, total)
        assert rate is None or min(seen) * (1 - 1e-9) <= rate <= max(seen) * (1 + 1e-9)
        assert left is None or 0.0 <= left <= LONGEST_SECONDS


@settings(deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=50))
def test_what_is_done_never_becomes_less(told: list[int]) -> None:
    pace = begun(0.0)
    paces = [pace := advanced(pace, float(number), done) for number, done in enumerate(told)]
    assert all(first.done <= second.done for first, second in pairwise(paces))
    assert paces[-1].done == max(told)


@settings(deadline=None)
@given(st.integers(5, 100), st.floats(0.0, 10**6), st.integers(1, 10**6))
def test_a_pause_of_any_length_is_forgotten(steps: int, pause: float, rate: int) -> None:
    """At once it costs a bounded factor, after a few minutes nothing."""
    pace, now = run(begun(0.0), 0.0, [(1.0, rate)] * steps)
    before = pace.rate()
    assert before is not None
    pace, now = run(pace, now, [(pause + 1.0, rate)])
    assert before / 4.0 <= (pace.rate() or 0) <= before * 1.001
    pace, now = run(pace, now, [(1.0, rate)] * 300)
    assert isclose(pace.rate() or 0, rate, rel_tol=0.1)


def test_a_pause_before_the_first_step_is_forgotten_too() -> None:
    pace, now = run(begun(0.0), 0.0, [(3600.0, 100)])
    pace, now = run(pace, now, [(1.0, 100)] * 300)
    assert isclose(pace.rate() or 0, 100.0, rel_tol=0.1)


def test_while_nothing_moves_nobody_knows_how_long_it_takes() -> None:
    pace, now = run(begun(0.0), 0.0, [(1.0, 100)] * 20)
    assert pace.remaining(now, 10_000) == pytest.approx(80.0)
    assert pace.remaining(now + SILENT_SECONDS, 10_000) == pytest.approx(20.0)
    assert pace.remaining(now + SILENT_SECONDS + 1, 10_000) is None
    assert pace.rate() == pytest.approx(100.0)


def test_steps_that_take_minutes_are_no_silence() -> None:
    pace, now = run(begun(0.0), 0.0, [(300.0, 1)] * 4)
    assert pace.remaining(now + 200.0, 10) == pytest.approx(6 * 300.0 - 200.0)
    assert not pace.is_silent(now + 900.0) and pace.is_silent(now + 1201.0)


@settings(deadline=None)
@given(
    st.integers(0, 10**12), st.lists(st.tuples(st.floats(0.1, 20.0), st.integers(1, 10**6)), min_size=3, max_size=30)
)
def test_taken_up_after_a_kill_it_goes_as_fast_as_from_the_start(there: int, steps: list[tuple[float, int]]) -> None:
    """What an earlier life did shortens the way and says nothing about the pace, whether told at once or on the way."""
    fresh, now = run(begun(0.0), 0.0, steps)
    resumed, _ = run(begun(0.0, there, there), 0.0, steps)
    later = begun(0.0)
    later = advanced(later, 0.0, there, there)
    at = 0.0
    for seconds, work in steps:
        at += seconds
        later = advanced(later, at, later.done + work, there)
    assert fresh.rate() == resumed.rate() == later.rate()
    more = 10**6
    assert fresh.remaining(now, fresh.done + more) == resumed.remaining(now, resumed.done + more)


def test_nothing_is_said_before_something_is_known() -> None:
    pace = begun(0.0)
    assert pace.rate() is None and pace.remaining(50.0, 100) is None
    pace = advanced(pace, 1.0, 50)
    assert pace.rate() is None
    pace = advanced(pace, 2.0, 60)
    assert pace.rate() is not None and pace.remaining(2.0, 0) is None
    assert advanced(pace, 3.0, 100).remaining(3.0, 100) == 0.0


def test_signs_within_one_tick_of_the_clock_count_with_the_next() -> None:
    pace = advanced(advanced(begun(0.0), 0.0, 50), 0.0, 100)
    assert pace.done == 100 and pace.rate() is None
    assert advanced(pace, 4.0, 200).rate() == 50.0


def test_a_large_step_is_no_pause() -> None:
    """A matrix a hundred times as large as those before: its time counts, as far as its size explains it."""
    pace, now = run(begun(0.0), 0.0, [(1.0, 100)] * 30)
    pace, now = run(pace, now, [(150.0, 10_000)])
    assert pace.worked == 30 + 150.0
    pace, now = run(pace, now, [(10_000.0, 100)])
    assert pace.worked <= 180.0 + GRACE_SECONDS + SLOWER * 100 / 60


def test_what_is_told_at_once_has_no_rate_of_its_own() -> None:
    pace = advanced(begun(0.0), 1e-308, 2)
    assert pace.rate() is None
    assert advanced(pace, 2.0, 3).rate() == 1.5
