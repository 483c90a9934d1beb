from __future__ import annotations

import math

import pytest

from mergenode.gates.contract import Outcome
from mergenode.gates.reasons import GateReason
from mergenode.gates.sign_conflict import sign_conflict
from tests.support.evidence import honest, whole


@pytest.mark.parametrize(
    ("share", "reason"),
    [(0.59, None), (0.6, None), (0.61, GateReason.SIGNS_OPPOSE), (math.nan, GateReason.NOT_FINITE)],
)
def test_at_above_and_below_the_limit(share: float, reason: GateReason | None) -> None:
    finding = sign_conflict().judge(whole(sign_conflict=share))
    assert finding.reason is reason
    assert finding.outcome is (Outcome.PASSED if reason is None else Outcome.FAILED)


def test_it_says_why_it_is_silent() -> None:
    unmeasured = whole(sign_conflict=None)
    assert "not compared" in sign_conflict().judge(unmeasured).message
    first = honest(groups=unmeasured.groups, merged=False)
    assert "no running merge" in sign_conflict().judge(first).message
