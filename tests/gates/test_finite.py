from __future__ import annotations

from mergenode.gates.contract import Outcome
from mergenode.gates.finite import finite
from mergenode.gates.reasons import GateReason
from tests.support.evidence import honest


def test_one_bad_tensor_is_enough() -> None:
    finding = finite().judge(honest(not_finite=("a.weight",), not_finite_count=1))
    assert finding.reason is GateReason.NOT_FINITE and "1 tensors" in finding.message
    assert "'a.weight'" in finding.message


def test_all_are_counted_and_three_are_named() -> None:
    finding = finite().judge(honest(not_finite=("a", "b", "c", "d"), not_finite_count=70))
    assert "70 tensors" in finding.message and "'c'" in finding.message and "'d'" not in finding.message
    assert finding.numbers == {"tensors": 70.0}


def test_nobody_looked() -> None:
    assert finite().judge(honest(not_finite=None)).outcome is Outcome.SILENT
