from __future__ import annotations

import math

import pytest

from mergenode.gates.contract import Outcome
from mergenode.gates.evaluation import evaluation
from mergenode.gates.reasons import GateReason
from tests.support.evidence import honest

BEFORE = {"digits": 0.75, "mail": 0.5}


@pytest.mark.parametrize(("after", "passes"), [(0.75, True), (0.625, True), (0.62, False), (0.9, True)])
def test_at_above_and_below_the_limit(after: float, passes: bool) -> None:
    evidence = honest(scores_before=BEFORE, scores_after={"digits": after, "mail": 0.5})
    finding = evaluation(max_drop=0.125).judge(evidence)
    assert finding.outcome is (Outcome.PASSED if passes else Outcome.FAILED)
    assert finding.reason is (None if passes else GateReason.SCORE_FELL)
    assert passes or "'digits' would fall" in finding.message


def test_the_worst_score_counts_and_new_ones_do_not() -> None:
    after = {"digits": 0.7, "mail": 0.3, "new": 0.0}
    finding = evaluation().judge(honest(scores_before=BEFORE, scores_after=after))
    assert "'mail'" in finding.message and finding.numbers["drop"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        ({"digits": 0.8}, GateReason.SCORE_MISSING),
        ({"digits": 0.8, "mail": math.nan}, GateReason.NOT_FINITE),
        ({"digits": 0.8, "mail": -math.inf}, GateReason.NOT_FINITE),
        ({"digits": 0.8, "mail": math.inf}, GateReason.NOT_FINITE),
    ],
)
def test_a_score_that_is_lost_fails(after: dict[str, float], reason: GateReason) -> None:
    assert evaluation().judge(honest(scores_before=BEFORE, scores_after=after)).reason is reason


def test_scores_that_were_no_numbers_before_are_not_judged() -> None:
    evidence = honest(scores_before={"a": math.nan}, scores_after={})
    assert evaluation().judge(evidence).outcome is Outcome.SILENT
    assert evaluation().judge(honest(scores_before={})).outcome is Outcome.SILENT
