"""Between a fold and its commit: what gates say, and what is in quarantine or was dropped already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from mergenode.errors import RejectReason, TransientError, TransientReason
from mergenode.ledger.records import Quarantined, Rejected
from mergenode.ports.clock import Clock
from mergenode.ports.gatekeeper import OBSERVE, QUARANTINE, REJECT, Gatekeeper, Verdict
from mergenode.ports.ledger_store import LedgerReader
from mergenode.ports.observer import Observer
from mergenode.types import Candidate, Digest, FoldResult, Head

MOST_FINDINGS = 16
MOST_NUMBERS = 16
MOST_CHARACTERS = 500
"""Bounds of what one fact says about gates: texts come from other people's files and plug-ins."""

_STRICTEST_FIRST = (REJECT, QUARANTINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """``kept_out``: the fact to record instead of a fold; None: it may be folded; ``result`` tells of findings."""

    result: FoldResult
    kept_out: Quarantined | Rejected | None = None
    findings: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """What judging takes of a line."""

    gatekeeper: Gatekeeper
    ledger: LedgerReader
    clock: Clock
    observer: Observer

    def known(self, candidate: Candidate, content: Digest | None) -> Quarantined | Rejected | None:
        """The fact that keeps a content out because the node knows it: it is in quarantine, or was dropped from there.

        None where it may go on: nothing is known against it, it was released, or the operator asks for it now.
        """
        if content is None or candidate.forced:
            return None
        held = self.ledger.held(content)
        if isinstance(held, Quarantined):
            return replace(held, time=self.clock.now(), **_identity(candidate), **_needed(candidate))
        refusal = self.ledger.refusal(content)
        if refusal is None or refusal.reason != RejectReason.DROPPED:
            return None
        return Rejected(
            time=self.clock.now(), **_identity(candidate), reason=RejectReason.DROPPED.value, content=content,
            message=f"{candidate.name}: its content was dropped from quarantine as {refusal.name!r} on {refusal.time}",
            hint="Nothing is to be done, unless that was a mistake: `mergenode ingest PATH` has it judged again.",
        )  # fmt: skip

    def judge(self, candidate: Candidate, head: Head, result: FoldResult) -> Judgement:
        """Ask the gates. What was released is let in whatever they say, and even where they cannot say anything.

        Raises TransientError, FatalError: see ``ports.gatekeeper``.
        """
        released = self.ledger.release(result.content) is not None
        try:
            verdicts = self.gatekeeper.judge(candidate, head, result)
        except TransientError as error:
            if not (released and error.reason is TransientReason.TASK_FAILED):
                raise
            self.observer.message("warning", f"{candidate.name!r} was released and is not judged: {error.message}")
            verdicts = ()
        if released:
            verdicts = tuple(replace(verdict, action=OBSERVE) for verdict in verdicts)
        verdicts = tuple(map(_bounded, sorted(verdicts, key=_strictness)[:MOST_FINDINGS]))
        findings = tuple(map(_finding, verdicts))
        first = verdicts[0] if verdicts else None
        if first is None or first.action not in _STRICTEST_FIRST:
            warnings = (*result.warnings, *(f"gate {verdict.gate}: {verdict.message}" for verdict in verdicts))
            return Judgement(result=replace(result, warnings=warnings), findings=findings)
        return Judgement(result=result, kept_out=self._kept_out(candidate, result.content, first, findings))

    def _kept_out(
        self, candidate: Candidate, content: Digest, verdict: Verdict, findings: Sequence[Mapping[str, Any]]
    ) -> Quarantined | Rejected:
        common: dict[str, Any] = {
            "time": self.clock.now(), "content": content, "reason": verdict.reason, "message": verdict.message,
            "hint": verdict.hint, "findings": tuple(findings), **_identity(candidate),
        }  # fmt: skip
        if verdict.action == REJECT:
            return Rejected(**common)
        return Quarantined(**common, gate=verdict.gate, numbers=dict(verdict.numbers), **_needed(candidate))


def _strictness(verdict: Verdict) -> int:
    return _STRICTEST_FIRST.index(verdict.action) if verdict.action in _STRICTEST_FIRST else len(_STRICTEST_FIRST)


def _identity(candidate: Candidate) -> dict[str, Any]:
    return {"registry": candidate.registry, "name": candidate.name, "revision": candidate.revision}


def _needed(candidate: Candidate) -> dict[str, Any]:
    """What a fold after a release needs, where no registry lists the contribution any more."""
    return {"location": candidate.location, "weight": candidate.weight, "profile": dict(candidate.profile)}


def _bounded(verdict: Verdict) -> Verdict:
    # What is not a number has been told in the message: a ledger has no place for it.
    numbers = {name: float(value) for name, value in verdict.numbers.items() if isfinite(value)}
    return replace(
        verdict, message=verdict.message[:MOST_CHARACTERS], hint=verdict.hint[:MOST_CHARACTERS],
        numbers=dict(list(numbers.items())[:MOST_NUMBERS]),
    )  # fmt: skip


def _finding(verdict: Verdict) -> dict[str, Any]:
    return {
        "gate": verdict.gate, "action": verdict.action, "reason": verdict.reason, "message": verdict.message,
        "hint": verdict.hint, "numbers": dict(verdict.numbers),
    }  # fmt: skip
