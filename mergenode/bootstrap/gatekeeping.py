"""Gates, composed: evidence from the fold, the ledger, a pass over the files and the task plug-in; then their word."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mergenode.adapters.checkpoints.regular_file import trusted_root
from mergenode.adapters.engines.local.engine import LocalEngine
from mergenode.adapters.engines.local.inspection import PASS_NEEDS, Effort, Subject, inspect
from mergenode.adapters.signatures.signing import check_signature
from mergenode.adapters.store.trial_files import TrialFiles
from mergenode.adapters.tasks.worker import TaskWorker
from mergenode.bootstrap.gates import gates_of, refuse_unmatched
from mergenode.bootstrap.trials import Trials
from mergenode.errors import TransientError, TransientReason
from mergenode.gates.contract import Action, Finding, Gate, frozen_patterns, judge_all, needs_of, strictest
from mergenode.gates.evidence import Evidence, Need, joined, of_fold, with_history
from mergenode.gates.signature import trusted_for
from mergenode.ledger.records import Folded, Member
from mergenode.ports.gatekeeper import OBSERVE, OPEN, Gatekeeper, Verdict
from mergenode.ports.ledger_store import LedgerReader
from mergenode.ports.observer import Observer
from mergenode.ports.publisher import Publisher
from mergenode.settings import Settings
from mergenode.types import Candidate, FoldResult, Head

HISTORY = 64
"""So many of the newest members tell what norms are usual; a fact of a large model holds tens of kilobytes."""

TASK_NEEDS = frozenset({Need.SCORES, Need.DESCENT})
"""What only the task plug-in can tell."""

NOT_JUDGED = "task_failed"
"""Reason of a gate that only observes, where the plug-in failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeGatekeeper:
    """Implements ``ports.gatekeeper.Gatekeeper`` for the local engine.

    Cheap gates first. What one of them holds back is not scored: a trial costs an export and an evaluation.
    ``trials``: used where a gate asks the task plug-in.
    """

    gates: Sequence[Gate]
    engine: LocalEngine
    ledger: LedgerReader
    publisher: Publisher
    trials: Trials

    def judge(self, candidate: Candidate, head: Head, result: FoldResult) -> tuple[Verdict, ...]:
        cheap = [gate for gate in self.gates if gate.needs.isdisjoint(TASK_NEEDS)]
        asking = [gate for gate in self.gates if not gate.needs.isdisjoint(TASK_NEEDS)]
        evidence = self._evidence(cheap, candidate, head, result)
        findings = judge_all(cheap, evidence)
        asked: tuple[Finding | Unjudged, ...] = ()
        if strictest(findings) not in (Action.QUARANTINE, Action.REJECT):
            asked = self._asked(asking, evidence, candidate, head, result)
        return tuple(_verdict(finding) for finding in (*findings, *asked) if finding.failed)

    def _evidence(self, gates: Sequence[Gate], candidate: Candidate, head: Head, result: FoldResult) -> Evidence:
        needs, engine, path = needs_of(gates), self.engine, Path(candidate.location)
        evidence = of_fold(result, weight=candidate.weight, label=candidate.name, merged=head.count > 0)
        if Need.HISTORY in needs:
            evidence = with_history(evidence, norms_of(member for _, member in self.ledger.newest_members(HISTORY)))
        # As its fold opened it: what the operator names himself may be a snapshot of links.
        root = trusted_root(path) if candidate.forced else None
        if not needs.isdisjoint(PASS_NEEDS):
            subject = Subject(path=path, root=root, limits=engine.limits, content=evidence.content)
            effort = Effort(memory=engine.available_bytes(), threads=engine.resources.threads, stop=engine.stop)
            measured = inspect(
                engine.base_path, subject, needs=needs, frozen=frozen_patterns(gates),
                merge_path=self._published(head), base=engine.base, effort=effort,
            )  # fmt: skip
            evidence = joined(evidence, measured)
        trusted = trusted_for(gates, candidate.registry)
        if not trusted:
            return evidence
        signature = check_signature(
            path, registry=candidate.registry, trusted=trusted, content=evidence.content, root=root,
            limits=engine.limits,
        )  # fmt: skip
        return replace(evidence, signature=signature)

    def _published(self, head: Head) -> Path | None:
        """The version that readers have of the running merge."""
        if not head.version or not head.count or not self.publisher.holds(head.version):
            return None
        return Path(self.publisher.path(head.version))

    def _asked(
        self, gates: Sequence[Gate], evidence: Evidence, candidate: Candidate, head: Head, result: FoldResult
    ) -> tuple[Finding | Unjudged, ...]:
        """What gates say that need the plug-in, one evidence at a time: a failure stands in the way of no other."""
        if not gates:
            return ()
        with self.trials.open(head) as trial:
            findings: list[Finding | Unjudged] = []
            for gate in gates:
                try:
                    if Need.SCORES in gate.needs:
                        before, after = trial.scores(result)
                        evidence = replace(evidence, scores_before=before, scores_after=after)
                    if Need.DESCENT in gate.needs:
                        evidence = replace(evidence, descent=trial.descent(candidate))
                except TransientError as error:
                    if error.reason is not TransientReason.TASK_FAILED or gate.action is not Action.OBSERVE:
                        raise
                    findings.append(Unjudged(gate.name, error.message, error.hint))
                else:
                    findings += judge_all([gate], evidence)
            return tuple(findings)


@dataclass(frozen=True, slots=True)
class Unjudged:
    """A gate that only observes could not be asked: that is told, and holds nobody up."""

    gate: str
    message: str
    hint: str
    failed: bool = True


def gatekeeper_of(
    settings: Settings, engine: LocalEngine, ledger: LedgerReader, publisher: Publisher, observer: Observer,
    stop: Callable[[], bool],
) -> Gatekeeper:  # fmt: skip
    """The gatekeeper that the settings ask for, on a locked state directory; trials that a kill left are swept away.

    That a gate which asks the task plug-in has one is a rule of the settings. Raises UsageError: see
    ``refuse_unmatched``.
    """
    gates, task = gates_of(settings.gates), settings.task
    refuse_unmatched(gates, engine.base.specs.keys())
    files = TrialFiles(settings.node.state, task.entrypoint or "")
    files.sweep()
    if not gates:
        return OPEN
    trials = Trials(
        engine=engine, publisher=publisher, observer=observer, files=files,
        open_task=lambda: TaskWorker(task, stop=stop, observer=observer),
    )  # fmt: skip
    return NodeGatekeeper(gates=gates, engine=engine, ledger=ledger, publisher=publisher, trials=trials)


def norms_of(members: Iterable[Member]) -> Mapping[str, tuple[float, ...]]:
    """Norms of members by group, each without the weight that it was folded with.

    What came from another ledger tells of the whole model alone.
    """
    norms: dict[str, list[float]] = {}
    for member in members:
        if not member.weight:
            continue
        groups: Mapping[str, Any] = {"*": member.norm}
        if isinstance(member, Folded) and member.groups:
            groups = {str(report["group"]): report["delta_norm"] for report in member.groups}
        for group, norm in groups.items():
            norms.setdefault(group, []).append(float(norm) / abs(member.weight))
    return {group: tuple(values) for group, values in norms.items()}


def _verdict(finding: Finding | Unjudged) -> Verdict:
    if isinstance(finding, Unjudged):
        message = f"not judged: {finding.message}"
        return Verdict(gate=finding.gate, action=OBSERVE, reason=NOT_JUDGED, message=message, hint=finding.hint)
    assert finding.reason is not None  # set exactly when it failed
    return Verdict(
        gate=finding.gate, action=finding.action.value, reason=finding.reason.value, message=finding.message,
        hint=finding.hint, numbers=finding.numbers,
    )  # fmt: skip
