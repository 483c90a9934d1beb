from __future__ import annotations

import math

import pytest

from mergenode.gates.contract import Outcome
from mergenode.gates.evidence import Descent
from mergenode.gates.frank_wolfe_sign import frank_wolfe_sign
from mergenode.gates.reasons import GateReason
from tests.support.evidence import honest


def slope(inner: float, gradient: float = 2.0, delta: float = 4.0) -> Descent:
    return Descent(inner=inner, gradient_norm=gradient, delta_norm=delta)


@pytest.mark.parametrize(
    ("inner", "passes"), [(-1e-300, True), (-8.0, True), (0.0, False), (-0.0, False), (0.1, False)]
)
def test_only_downhill_passes(inner: float, passes: bool) -> None:
    finding = frank_wolfe_sign().judge(honest(descent=slope(inner)))
    assert finding.outcome is (Outcome.PASSED if passes else Outcome.FAILED)
    assert finding.reason is (None if passes else GateReason.UPHILL)


@pytest.mark.parametrize(("inner", "passes"), [(-4.1, True), (-4.0, False), (-3.9, False)])
def test_the_limit_is_relative_to_both_norms(inner: float, passes: bool) -> None:
    finding = frank_wolfe_sign(max_cosine=-0.5).judge(honest(descent=slope(inner)))
    assert (finding.outcome is Outcome.PASSED) == passes
    assert finding.numbers["cosine"] == pytest.approx(inner / 8.0)


@pytest.mark.parametrize("descent", [slope(math.nan), slope(-1.0, math.inf), slope(-1.0, 1.0, math.nan)])
def test_what_is_no_number_fails(descent: Descent) -> None:
    assert frank_wolfe_sign().judge(honest(descent=descent)).reason is GateReason.NOT_FINITE


@pytest.mark.parametrize("descent", [None, slope(0.0, 0.0), slope(0.0, 1.0, 0.0)])
def test_without_a_slope_it_is_silent(descent: Descent | None) -> None:
    assert frank_wolfe_sign().judge(honest(descent=descent)).outcome is Outcome.SILENT
