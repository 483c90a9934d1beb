"""The contract of a gate: a pure function from evidence to a finding.

A gate sees numbers and names, never tensors, files, clocks or logs. It says which evidence it needs, so that nothing is
measured that no gate asks for. It never raises: evidence that is not there makes it *silent*, which is an answer, too;
evidence that is not a number makes it speak.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from mergenode.gates.evidence import Evidence, Need
from mergenode.gates.reasons import GateReason


class Action(StrEnum):
    """What follows when a gate speaks. The mildest first."""

    OBSERVE = "observe"
    """It is told, and the contribution is folded."""
    QUARANTINE = "quarantine"
    """It is set aside until an operator decides."""
    REJECT = "reject"
    """It is refused."""


class Outcome(StrEnum):
    """What a gate says."""

    PASSED = "passed"
    FAILED = "failed"
    SILENT = "silent"
    """It has nothing to judge by: no history yet, no running merge, a method that does not project, no plug-in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one gate says about one contribution.

    ``reason``: set exactly when it failed. ``message``: what, where, how much against which limit; of a silent gate:
    why. ``hint``: what to do next, empty unless it failed. ``numbers``: what was compared, by bounded names, all finite
    or not as they were measured; thresholds are among them, under ``max_...`` and ``min_...``.
    """

    gate: str
    outcome: Outcome
    action: Action
    reason: GateReason | None = None
    message: str = ""
    hint: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return self.outcome is Outcome.FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A gate as a value, made by its factory in ``GATES`` from its options.

    ``judge`` leaves ``Finding.action`` at any value; ``judge_all`` sets it. ``patterns``: of the tensors that have to
    stay as they are in the base, for the gate that needs ``FROZEN``.
    """

    name: str
    needs: frozenset[Need]
    judge: Callable[[Evidence], Finding]
    options: Mapping[str, object] = field(default_factory=dict)
    action: Action = Action.OBSERVE
    patterns: tuple[str, ...] = ()


def judge_all(gates: Iterable[Gate], evidence: Evidence) -> tuple[Finding, ...]:
    """One finding per gate, in their order, each with the action of its gate."""
    return tuple(replace(gate.judge(evidence), action=gate.action) for gate in gates)


def strictest(findings: Iterable[Finding]) -> Action | None:
    """The strictest action among those that failed; None when none did."""
    order = list(Action)
    failed = [finding.action for finding in findings if finding.failed]
    return max(failed, key=order.index, default=None)


def needs_of(gates: Iterable[Gate]) -> frozenset[Need]:
    """All evidence that these gates look at."""
    return frozenset(need for gate in gates for need in gate.needs)


def frozen_patterns(gates: Iterable[Gate]) -> tuple[str, ...]:
    """Patterns of the names of tensors that have to stay bit-identical to the base."""
    return tuple(pattern for gate in gates for pattern in gate.patterns)


def passed(gate: str, numbers: Mapping[str, float], message: str = "") -> Finding:
    """Nothing to say against it."""
    return Finding(gate=gate, outcome=Outcome.PASSED, action=Action.OBSERVE, message=message, numbers=numbers)


def silent(gate: str, why: str) -> Finding:
    """Nothing to judge by."""
    return Finding(gate=gate, outcome=Outcome.SILENT, action=Action.OBSERVE, message=why)


def failed(gate: str, reason: GateReason, message: str, hint: str, numbers: Mapping[str, float]) -> Finding:
    """Something is wrong."""
    return Finding(
        gate=gate,
        outcome=Outcome.FAILED,
        action=Action.OBSERVE,
        reason=reason,
        message=message,
        hint=hint,
        numbers=numbers,
    )


def not_finite(gate: str, what: str, value: float) -> Finding:
    """A number that has to be judged is none: evidence that cannot be compared never passes."""
    return failed(
        gate,
        GateReason.NOT_FINITE,
        f"{what} is {value}, which no limit can be compared with",
        "The training run diverged or the file is damaged: push an earlier checkpoint of the run.",
        {"value": value},
    )
