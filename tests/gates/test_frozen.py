from __future__ import annotations

from mergenode.gates.contract import Outcome
from mergenode.gates.frozen import frozen
from mergenode.gates.reasons import GateReason
from tests.support.evidence import honest


def test_one_changed_tensor_is_enough() -> None:
    gate = frozen(patterns=["lm_head.*"])
    assert gate.judge(honest()).outcome is Outcome.PASSED
    finding = gate.judge(honest(frozen_changed=("lm_head.weight",), frozen_changed_count=31))
    assert finding.reason is GateReason.FROZEN_CHANGED
    assert "31 tensors" in finding.message and "'lm_head.weight'" in finding.message


def test_nothing_is_frozen_or_nobody_looked() -> None:
    assert frozen().judge(honest(frozen_changed=("a",))).outcome is Outcome.SILENT
    assert frozen(patterns=["a"]).judge(honest(frozen_changed=None)).outcome is Outcome.SILENT
