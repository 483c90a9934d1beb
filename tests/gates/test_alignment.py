from __future__ import annotations

import math

import pytest

from mergenode.gates.alignment import alignment
from mergenode.gates.contract import Outcome
from mergenode.gates.evidence import Need
from mergenode.gates.reasons import GateReason
from tests.support.evidence import honest, whole


@pytest.mark.parametrize(
    ("cosine", "kept", "reason"),
    [
        (-0.1, 0.05, None),
        (-0.099, 0.051, None),
        (-0.101, 0.8, GateReason.AGAINST_THE_MERGE),
        (0.1, 0.049, GateReason.LITTLE_IS_KEPT),
        (math.nan, 0.8, GateReason.NOT_FINITE),
        (0.1, math.nan, GateReason.NOT_FINITE),
        (0.1, None, None),
        (None, 0.01, GateReason.LITTLE_IS_KEPT),
    ],
)
def test_at_above_and_below_both_bounds(cosine: float | None, kept: float | None, reason: GateReason | None) -> None:
    finding = alignment().judge(whole(cosine=cosine, share_kept=kept))
    assert finding.reason is reason
    assert finding.outcome is (Outcome.PASSED if reason is None else Outcome.FAILED)


def test_the_first_contribution_has_nothing_to_point_against() -> None:
    first = honest(merged=False)
    assert alignment().judge(first).outcome is Outcome.SILENT


def test_a_method_that_tells_neither() -> None:
    finding = alignment().judge(whole(cosine=None, share_kept=None))
    assert finding.outcome is Outcome.SILENT and "method" in finding.message


def test_what_is_not_judged_is_not_asked_for() -> None:
    assert alignment(min_cosine=None).needs == {Need.KEPT}
    assert alignment(min_share_kept=None).needs == {Need.MERGE}
    assert alignment(min_cosine=None).judge(whole(cosine=-1.0)).outcome is Outcome.PASSED
    assert alignment(min_share_kept=None).judge(whole(share_kept=0.0)).outcome is Outcome.PASSED
