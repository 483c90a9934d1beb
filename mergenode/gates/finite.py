"""Every value is a number: the check that every fold makes, as a gate."""

from __future__ import annotations

from mergenode.gates.contract import Finding, Gate, failed, passed, silent
from mergenode.gates.evidence import Evidence, Need
from mergenode.gates.reasons import GateReason


def finite() -> Gate:
    """No tensor of a contribution holds NaN or an infinity.

    A fold refuses such a contribution whatever this gate is set to, with the same code. The gate says it for
    checkpoints that are inspected without being folded.
    """

    def judge(evidence: Evidence) -> Finding:
        if evidence.not_finite is None:
            return silent("finite", "the values were not looked at")
        count = max(evidence.not_finite_count, len(evidence.not_finite))
        numbers = {"tensors": float(count)}
        if not count:
            return passed("finite", numbers)
        names = ", ".join(map(repr, evidence.not_finite[:3]))
        return failed(
            "finite",
            GateReason.NOT_FINITE,
            f"{count} tensors hold values that are not finite: {names}",
            "The training run diverged or the file is damaged: push an earlier checkpoint of the run.",
            numbers,
        )

    return Gate(name="finite", needs=frozenset({Need.VALUES}), judge=judge)
