from __future__ import annotations

import pytest

from mergenode.gates import build_gate
from mergenode.gates.contract import Outcome
from mergenode.gates.evidence import Need, SignatureEvidence, SignatureStatus
from mergenode.gates.reasons import GateReason
from mergenode.gates.signature import signature, trusted_for
from tests.support.evidence import honest

REASONS = {
    SignatureStatus.VALID: None,
    SignatureStatus.MISSING: GateReason.SIGNATURE_MISSING,
    SignatureStatus.INVALID: GateReason.SIGNATURE_INVALID,
    SignatureStatus.UNTRUSTED: GateReason.SIGNATURE_UNTRUSTED,
}


@pytest.mark.parametrize("status", SignatureStatus)
def test_every_status_has_its_reason(status: SignatureStatus) -> None:
    found = SignatureEvidence(status=status, registry="inbox", key="ed25519:ab", detail="config.json differs")
    finding = signature(keys={"inbox": ["k"]}).judge(honest(signature=found))
    assert finding.reason is REASONS[status]
    assert finding.outcome is (Outcome.PASSED if status is SignatureStatus.VALID else Outcome.FAILED)
    assert "ed25519:ab" in finding.message
    assert not finding.failed or ("'inbox'" in finding.message and "config.json differs" in finding.message)


def test_registries_without_keys_are_not_judged() -> None:
    assert signature(keys={"other": ["k"]}).judge(honest(signature=None)).outcome is Outcome.SILENT
    assert signature(keys={"other": ["k"]}).needs == {Need.SIGNATURE}


def test_the_keys_of_a_registry_or_of_all_others() -> None:
    gates = [build_gate("norm", {}), build_gate("signature", {"keys": {"a": ["one", "two"], "*": ["three"]}})]
    assert trusted_for(gates, "a") == ("one", "two") and trusted_for(gates, "b") == ("three",)
    assert trusted_for([build_gate("signature", {"keys": {"a": ["one"]}})], "b") == ()
    assert trusted_for([build_gate("norm", {})], "a") == ()
