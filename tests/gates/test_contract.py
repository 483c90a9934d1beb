"""What every gate in GATES has to do. A new gate is picked up from the table."""

from __future__ import annotations

import inspect
import math
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.errors import RejectReason, UsageError
from mergenode.gates import GATES, build_gate
from mergenode.gates.contract import (
    Action,
    Finding,
    Gate,
    Outcome,
    frozen_patterns,
    judge_all,
    needs_of,
    strictest,
)
from mergenode.gates.evidence import (
    WHOLE,
    Descent,
    Evidence,
    GroupEvidence,
    MatrixSpectrum,
    Need,
    SignatureEvidence,
    SignatureStatus,
    SpectraSummary,
)
from mergenode.gates.reasons import GateReason
from tests.support.evidence import honest

OPTIONS: dict[str, dict[str, object]] = {"frozen": {"patterns": ("a.*",)}, "signature": {"keys": {"inbox": ("key",)}}}
"""What has to be given for a gate to need anything."""

FIELDS: dict[Need, tuple[str, ...]] = {
    Need.VALUES: ("not_finite", "not_finite_count"),
    Need.NORMS: ("groups",),
    Need.HISTORY: ("history",),
    Need.MERGE: ("groups", "merged"),
    Need.KEPT: ("groups", "merged"),
    Need.SPECTRA: ("spectra",),
    Need.SIGNS: ("groups", "merged"),
    Need.FROZEN: ("frozen_changed", "frozen_changed_count"),
    Need.SCORES: ("scores_before", "scores_after"),
    Need.DESCENT: ("descent",),
    Need.SIGNATURE: ("signature",),
}


def gate_of(name: str) -> Gate:
    return build_gate(name, OPTIONS.get(name, {}))


every_gate = pytest.mark.parametrize("name", GATES)
ANY = st.floats(allow_nan=True, allow_infinity=True)
MAYBE = st.none() | ANY
NAMES = st.lists(st.text(max_size=5), max_size=3).map(tuple)
GROUP = st.builds(
    GroupEvidence, group=st.just(WHOLE), parameters=st.integers(0, 9), norm=ANY, base_norm=MAYBE, cosine=MAYBE,
    share_kept=MAYBE, sign_conflict=MAYBE,
)  # fmt: skip
SPECTRUM = st.builds(
    MatrixSpectrum, name=st.text(max_size=5), rank=st.integers(0, 9), energy=ANY, shares=st.lists(ANY).map(tuple)
)
EVIDENCE = st.builds(
    Evidence,
    groups=st.dictionaries(st.sampled_from([WHOLE, "a", "b"]), GROUP),
    history=st.dictionaries(st.sampled_from([WHOLE, "a", "b"]), st.lists(ANY, max_size=6).map(tuple)),
    merged=st.booleans(),
    not_finite=st.none() | NAMES,
    not_finite_count=st.integers(0, 9),
    spectra=st.none()
    | st.builds(
        SpectraSummary, matrices=st.integers(0, 3), median=st.lists(MAYBE, max_size=4).map(tuple),
        worst=st.none() | SPECTRUM,
    ),
    frozen_changed=st.none() | NAMES,
    scores_before=st.none() | st.dictionaries(st.sampled_from("xyz"), ANY),
    scores_after=st.none() | st.dictionaries(st.sampled_from("xyz"), ANY),
    descent=st.none() | st.builds(Descent, inner=ANY, gradient_norm=ANY, delta_norm=ANY),
    signature=st.none()
    | st.builds(SignatureEvidence, status=st.sampled_from(SignatureStatus), registry=st.text(), key=st.text()),
)  # fmt: skip


def well_formed(finding: Finding, name: str) -> None:
    assert finding.gate == name and isinstance(finding.outcome, Outcome)
    assert (finding.reason is not None) == finding.failed == (finding.outcome is Outcome.FAILED)
    assert bool(finding.hint) == finding.failed
    assert finding.message or finding.outcome is Outcome.PASSED
    assert all(isinstance(value, float) for value in finding.numbers.values())
    assert len(finding.numbers) <= 10


@every_gate
def test_it_lets_an_honest_contribution_pass(name: str) -> None:
    finding = gate_of(name).judge(honest())
    assert finding.outcome is Outcome.PASSED, finding.message
    well_formed(finding, name)


@every_gate
def test_without_evidence_it_is_silent_and_says_why(name: str) -> None:
    finding = gate_of(name).judge(Evidence())
    assert finding.outcome is Outcome.SILENT
    well_formed(finding, name)


@every_gate
def test_it_looks_at_nothing_but_what_it_needs(name: str) -> None:
    gate = gate_of(name)
    looked_at = {field for need in gate.needs for field in FIELDS[need]}
    empty = Evidence()
    others = {field.name: getattr(empty, field.name) for field in fields(Evidence) if field.name not in looked_at}
    assert gate.judge(replace(honest(), **others)) == gate.judge(honest())


@settings(deadline=None, max_examples=120)
@given(evidence=EVIDENCE)
def test_whatever_the_evidence_they_answer_and_answer_the_same_again(evidence: Evidence) -> None:
    for name in GATES:
        gate = gate_of(name)
        finding = gate.judge(evidence)
        well_formed(finding, name)
        assert repr(gate.judge(evidence)) == repr(finding)
        judged = {key: value for key, value in finding.numbers.items() if not key.startswith(("max_", "min_"))}
        if finding.outcome is Outcome.PASSED:
            assert all(map(math.isfinite, judged.values())), "what is no number never passes"


@every_gate
def test_it_states_its_options_and_one_file(name: str) -> None:
    gate = gate_of(name)
    assert gate.name == name and gate.needs <= set(Need)
    assert set(gate.options) == set(inspect.signature(GATES[name]).parameters)
    assert Path(inspect.getfile(GATES[name])).stem == name
    assert (Path(__file__).parent / f"test_{name}.py").is_file()


def test_every_reason_has_a_gate_that_gives_it() -> None:
    folder = Path(inspect.getfile(GATES["norm"])).parent
    text = "".join(path.read_text() for path in folder.glob("*.py"))
    assert [reason for reason in GateReason if f"GateReason.{reason.name}" not in text] == []
    assert all(reason.value == reason.name.lower() for reason in GateReason)


def test_codes_shared_with_rejections_mean_the_same() -> None:
    assert {reason.value for reason in GateReason} & {reason.value for reason in RejectReason} == {"not_finite"}


def test_all_are_judged_in_order_with_the_action_of_their_gate() -> None:
    gates = [build_gate("finite", {}, Action.REJECT), build_gate("norm", {}, Action.QUARANTINE)]
    findings = judge_all(gates, honest(not_finite=("a",), history={}))
    assert [(finding.gate, finding.action, finding.outcome) for finding in findings] == [
        ("finite", Action.REJECT, Outcome.FAILED), ("norm", Action.QUARANTINE, Outcome.SILENT),
    ]  # fmt: skip
    assert judge_all([], honest()) == ()


def test_the_strictest_action_of_those_that_failed_counts() -> None:
    def findings(*actions: Action) -> tuple[Finding, ...]:
        gates = [build_gate("finite", {}, action) for action in actions]
        return judge_all(gates, honest(not_finite=("a",)))

    assert strictest(findings(Action.OBSERVE, Action.REJECT, Action.QUARANTINE)) is Action.REJECT
    assert strictest(findings(Action.OBSERVE, Action.QUARANTINE)) is Action.QUARANTINE
    assert strictest(judge_all([build_gate("finite", {}, Action.REJECT)], honest())) is None


def test_needs_and_patterns_of_several_gates() -> None:
    gates = [gate_of("frozen"), gate_of("norm")]
    assert needs_of(gates) == {Need.FROZEN, Need.NORMS, Need.HISTORY}
    assert frozen_patterns(gates) == ("a.*",)
    assert needs_of([build_gate("frozen", {}), build_gate("signature", {})]) == set()


def test_names_that_are_wrong_are_told_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no gate 'nrom'") as raised:
        build_gate("nrom", {})
    assert raised.value.hint == "Did you mean 'norm'?"
    with pytest.raises(UsageError, match="has no option 'max_ration'") as raised:
        build_gate("norm", {"max_ration": 1})
    assert "max_ratio" in raised.value.hint
    with pytest.raises(UsageError) as raised:
        build_gate("finite", {"limit": 1})
    assert raised.value.hint == "It has no options."
