from __future__ import annotations

import math
from dataclasses import replace

import pytest

from mergenode.gates.contract import Outcome
from mergenode.gates.evidence import MatrixSpectrum, SpectraSummary
from mergenode.gates.reasons import GateReason
from mergenode.gates.top_share import top_share
from tests.support.evidence import honest

WORST = MatrixSpectrum(name="a.weight", rank=8, energy=2.0, shares=(0.97, 0.98, 0.99, 1.0))


def summary(*median: float | None) -> SpectraSummary:
    return SpectraSummary(matrices=4, median=median, worst=WORST)


@pytest.mark.parametrize(
    ("excess", "reason"),
    [(0.49, None), (0.5, None), (0.51, GateReason.FEW_DIRECTIONS), (math.nan, GateReason.NOT_FINITE)],
)
def test_at_above_and_below_the_limit(excess: float, reason: GateReason | None) -> None:
    finding = top_share().judge(honest(spectra=summary(excess, 1.0, 1.0, 1.0)))
    assert finding.reason is reason
    assert finding.outcome is (Outcome.PASSED if reason is None else Outcome.FAILED)


@pytest.mark.parametrize(("excess", "passes"), [(0.79, True), (0.8, True), (0.81, False)])
def test_adapters_have_a_limit_of_their_own(excess: float, passes: bool) -> None:
    finding = top_share().judge(honest(spectra=replace(summary(excess), adapter=True)))
    assert (finding.outcome is Outcome.PASSED) == passes
    assert finding.numbers["max_excess"] == 0.8


def test_it_names_the_worst_matrix() -> None:
    message = top_share().judge(honest(spectra=summary(0.95))).message
    assert "'a.weight', 0.97 of it in one of 8 directions" in message
    bare = SpectraSummary(matrices=1, median=(0.95,))
    assert "farthest" not in top_share().judge(honest(spectra=bare)).message


def test_more_directions_than_one() -> None:
    evidence = honest(spectra=summary(0.5, 0.95, None, None))
    assert top_share(directions=1).judge(evidence).outcome is Outcome.PASSED
    assert "the 2 leading directions" in top_share(directions=2).judge(evidence).message
    assert top_share(directions=3).judge(evidence).outcome is Outcome.SILENT


@pytest.mark.parametrize("directions", [0, 5])
def test_what_is_not_measured_cannot_be_asked_for(directions: int) -> None:
    with pytest.raises(ValueError, match="1 to 4"):
        top_share(directions=directions)
