from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.gates.contract import Outcome
from mergenode.gates.evidence import WHOLE
from mergenode.gates.norm import NORMAL, limit_of, norm
from mergenode.gates.reasons import GateReason
from tests.support.evidence import group, honest, members


@pytest.mark.parametrize(("value", "passes"), [(4.99, True), (5.0, True), (math.nextafter(5.0, 6.0), False)])
def test_at_above_and_below_the_ratio(value: float, passes: bool) -> None:
    finding = norm().judge(members([1.0, 1.0, 1.0], value))
    assert (finding.outcome is Outcome.PASSED) == passes
    assert finding.reason is (None if passes else GateReason.NORM_ABOVE_MEDIAN)
    assert finding.numbers["limit"] == 5.0 and finding.numbers["median"] == 1.0


def test_varied_members_widen_the_limit() -> None:
    varied = [1.0, 2.0, 8.0, 14.0, 15.0]  # median 8, deviations 7 6 0 6 7
    limit = 8.0 + 6.0 * NORMAL * 6.0
    gate = norm(max_ratio=1.0)
    assert gate.judge(members(varied, limit)).outcome is Outcome.PASSED
    assert gate.judge(members(varied, limit * 1.001)).failed


def test_one_liar_among_the_members_does_not_move_the_limit() -> None:
    assert limit_of([1.0, 1.1, 0.9, 1.0, 1e9], 5.0, 6.0)[1] < 6.0


def test_few_members_say_nothing() -> None:
    silent = norm().judge(members([1.0, 1.0], 1e9))
    assert silent.outcome is Outcome.SILENT and "2 members, 3 are needed" in silent.message
    assert norm(min_members=2).judge(members([1.0, 1.0], 1e9)).failed
    assert norm(min_members=0).judge(members([], 1.0)).outcome is Outcome.SILENT


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_norm_that_is_no_number_fails_even_without_history(value: float) -> None:
    finding = norm().judge(members([], value))
    assert finding.reason is GateReason.NOT_FINITE


def test_members_that_are_no_numbers_do_not_count() -> None:
    assert norm().judge(members([math.nan, math.inf, 1.0, 1.0], 1.0)).outcome is Outcome.SILENT


@pytest.mark.parametrize(("value", "passes"), [(20.0, True), (20.1, False)])
def test_a_group_that_is_blown_up(value: float, passes: bool) -> None:
    groups = {WHOLE: group(norm=4.0), "layers.0": group("layers.0", norm=value), "layers.1": group("layers.1")}
    history = dict.fromkeys(groups, (1.0, 1.0, 1.0))
    finding = norm().judge(honest(groups=groups, history=history))
    assert (finding.outcome is Outcome.PASSED) == passes
    assert passes or "'layers.0'" in finding.message
    assert norm(max_group_ratio=None).judge(honest(groups=groups, history=history)).outcome is Outcome.PASSED


def test_groups_that_most_members_leave_alone_are_not_judged() -> None:
    groups = {WHOLE: group(norm=1.0), "head": group("head", norm=0.9)}
    history = {WHOLE: (1.0, 1.0, 1.0), "head": (0.0, 0.01, 1.0)}
    assert norm().judge(honest(groups=groups, history=history)).outcome is Outcome.PASSED


@settings(deadline=None, max_examples=100)
@given(
    history=st.lists(st.floats(0.01, 100.0), min_size=3, max_size=12), value=st.floats(0.01, 1e4),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)  # fmt: skip
def test_the_limit_by_sorting_and_in_any_unit(history: list[float], value: float, scale: float) -> None:
    def middle(values: list[float]) -> float:
        ordered = sorted(values)
        half = len(ordered) // 2
        return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2

    centre = middle(history)
    limit = max(5.0 * centre, centre + 6.0 * NORMAL * middle([abs(norm - centre) for norm in history]))
    finding = norm().judge(members([entry * scale for entry in history], value * scale))
    assert finding.numbers["limit"] == pytest.approx(limit * scale)
    if abs(value - limit) > 1e-9 * limit:
        assert finding.failed == (value > limit)


@given(extra=st.floats(0.01, 4.0))
@settings(deadline=None, max_examples=30)
def test_longer_never_passes_where_shorter_failed(extra: float) -> None:
    history = [1.0, 1.2, 0.7, 1.1]
    limit = norm().judge(members(history, 1.0)).numbers["limit"]
    assert norm().judge(members(history, limit + extra)).failed
