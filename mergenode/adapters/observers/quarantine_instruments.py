"""Metrics of gates and quarantine: how much is held back, and which gates speak."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from mergenode.adapters.observers.bounded_labels import ClosedLabels
from mergenode.gates import GATES
from mergenode.gates.contract import Action
from mergenode.ledger.records import Admitted, Fact, Folded, Quarantined, Rejected, Released
from mergenode.types import Digest


class QuarantineInstruments:
    """Labels: the table of gates and the actions. In memory: one digest per content in quarantine."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._held: set[Digest] = set()
        self._gates, self._actions = ClosedLabels(GATES), ClosedLabels(action.value for action in Action)
        self._quarantined = Gauge(
            "mergenode_quarantined", "Contributions in quarantine, which wait for the operator.", registry=registry
        )
        self._findings = Counter(
            "mergenode_gate_findings_total",
            "What gates had against contributions since the start of the process, by what followed.",
            ["gate", "action"],
            registry=registry,
        )
        self._spoke = Gauge(
            "mergenode_gate_last_generation",
            "Generation of the last fold that the gate let pass and had something against, 0 before the first.",
            ["gate"],
            registry=registry,
        )
        for gate in self._gates.values:
            self._spoke.labels(gate).set(0)
            for action in self._actions.values:
                self._findings.labels(gate, action)

    def restore(self, fact: Fact) -> None:
        """A fold, or something that is in quarantine, since before the start of the process."""
        if isinstance(fact, Quarantined):
            self._held.add(fact.content)
            self._quarantined.set(len(self._held))
        elif isinstance(fact, Folded):
            self._name(fact)

    def fact(self, fact: Fact) -> None:
        """A fact was recorded."""
        if isinstance(fact, Folded | Quarantined | Rejected):
            for finding in fact.findings:
                gate, action = str(finding.get("gate")), str(finding.get("action"))
                self._findings.labels(self._gates.label(gate), self._actions.label(action)).inc()
        if isinstance(fact, Folded):
            self._name(fact)
        if isinstance(fact, Quarantined):
            self._held.add(fact.content)
        elif isinstance(fact, Folded | Admitted | Rejected | Released) and fact.content is not None:
            self._held.discard(fact.content)
        self._quarantined.set(len(self._held))

    def _name(self, fact: Folded) -> None:
        for finding in fact.findings:
            self._spoke.labels(self._gates.label(str(finding.get("gate")))).set(fact.generation)
