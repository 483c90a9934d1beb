"""Facts as commands show them: JSON fields, subjects, sentences, what still waits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mergenode.cli.output import percent_text
from mergenode.ledger.codec import encode
from mergenode.ledger.records import (
    Admitted,
    ContributionFact,
    Deferred,
    Deselected,
    Discovered,
    Duplicate,
    Fact,
    Folded,
    Forgotten,
    Heard,
    Initialised,
    Mixed,
    Pruned,
    Published,
    Quarantined,
    Rejected,
    Released,
    Restated,
    Retracted,
    Ruled,
    Scored,
    Selected,
    United,
    Yielded,
)
from mergenode.ledger.traces import trace_of

if TYPE_CHECKING:
    from mergenode.ports.ledger_store import LedgerReader

_LOOKED_BACK = 1000
_NAMED = 5
"""Chosen contributions that the sentence about a selection names."""


def fact_fields(sequence: int, fact: Fact) -> dict[str, Any]:
    """A fact as JSON values: its sequence number, kind, time and trace id (null for those about the node itself), then
    the fields of its kind by name."""
    body = json.loads(encode(fact))
    first = {
        "sequence": sequence,
        "kind": body.pop("kind"),
        "time": body.pop("time"),
        "trace_id": trace_of(fact) or None,
    }
    return {**first, **body}


def pending(reader: LedgerReader) -> Sequence[tuple[int, Discovered]]:
    """Contributions that were discovered and have no outcome yet, among the newest thousand discovered.

    What a selection was made from waits no longer, even where it was not chosen.
    """
    selections = reader.facts(kinds=("selected",), newest=1)
    considered = selections[0][0] if selections else 0
    found = [
        (sequence, fact)
        for sequence, fact in reader.facts(kinds=("discovered",), newest=_LOOKED_BACK)
        if isinstance(fact, Discovered)
    ]
    outcomes = reader.outcomes([(fact.registry, fact.name, fact.revision) for _, fact in found])
    return [
        (sequence, fact)
        for sequence, fact in found
        if isinstance(outcomes.get((fact.registry, fact.name, fact.revision)), Discovered) and sequence > considered
    ]


def share_kept(fact: Fact) -> float | None:
    """The share of the whole contribution that its fold kept; None when the method does not define it."""
    for group in fact.groups if isinstance(fact, Folded) else ():
        if group.get("group") == "*":
            share = group.get("share_kept")
            return None if share is None else float(share)
    return None


def subject(fact: Fact) -> str:
    """What a fact is about: registry/name, versions, or nothing for the node itself."""
    text = ""
    match fact:
        case ContributionFact():
            text = f"{fact.registry}/{fact.name}"
        case Ruled():
            text = str(fact.content[:19])
        case Forgotten():
            text = fact.node
        case Published() | Scored():
            text = f"v{fact.version:06d}"
        case Mixed():
            text = f"round {fact.number}"
        case Selected():
            text = f"{len(fact.target)} of {fact.size}"
        case Pruned():
            text = ", ".join(f"v{version:06d}" for version in fact.versions)
    return text


def sentence(fact: Fact) -> str:
    """A fact in a few words, without its subject."""
    text = _between_nodes(fact) or _of_selections(fact) or _of_quarantine(fact) or fact.kind
    match fact:
        case Initialised():
            text = f"method {fact.method}, base {fact.base[:19]}"
        case Discovered():
            text = f"at {fact.location}"
        case Rejected():
            text = f"{fact.reason}: {fact.message}"
        case Duplicate():
            text = f"same content as {fact.same_as}"
        case Folded():
            text = f"contribution {fact.count}, {fact.contribution_kind}, relative norm {fact.relative_norm:.4g}"
            text += f", kept {percent_text(share_kept(fact))}, {fact.seconds:.1f} s"
        case Published():
            what = f"generation {fact.generation}" if fact.round is None else f"round {fact.round}"
            text = f"{what} at {fact.path}, {fact.seconds:.1f} s"
        case Scored():
            text = ", ".join(f"{task} {score:.4g}" for task, score in sorted(fact.scores.items()))
        case Pruned():
            text = "files removed by retention"
        case Retracted():
            text = fact.why or "taken out of the merge"
        case Admitted():
            text = f"from {fact.location}, folded by ledger {fact.origin[:12]}"
        case Restated() if not isinstance(fact, United):
            back = "" if fact.rollback_to is None else f"back to v{fact.rollback_to:06d}: "
            text = f"{back}{fact.count} contributions left, {fact.how}, {fact.seconds:.1f} s"
        case Mixed():
            text = _mixed_sentence(fact)
    return text


def _of_selections(fact: Fact) -> str:
    """The sentence of a fact about what a selector chose; empty for all others."""
    if isinstance(fact, Deselected):
        return f"weighed otherwise since: it had {fact.weight:.3g}"
    if not isinstance(fact, Selected):
        return ""
    text = f"loss {fact.loss:.4g}, gap {fact.gap:.2g} after {fact.rounds} rounds ({fact.stopped})"
    text += "".join(f", {entry['name']} {entry['weight']:.3g}" for entry in fact.target[:_NAMED])
    return text + (", ..." if len(fact.target) > _NAMED else "")


def _of_quarantine(fact: Fact) -> str:
    """The sentence of a fact about quarantine; empty for all others."""
    if isinstance(fact, Quarantined):
        return f"gate {fact.gate}, {fact.reason}: {fact.message}"
    if isinstance(fact, Released):
        return f"let out of quarantine by {fact.who or 'the operator'}" + (f": {fact.why}" if fact.why else "")
    return ""


def _between_nodes(fact: Fact) -> str:
    """The sentence of a fact about other nodes; empty for all others."""
    text = ""
    match fact:
        case Yielded() | Deferred():
            text = f"counts by node {fact.keeper}"
        case Heard():
            text = f"{fact.count} contributions, generation {fact.generation}"
        case Ruled():
            what = "out of the union" if fact.number % 2 else "may be in the union again"
            text = f"{what}, says node {fact.node}" + (f": {fact.why}" if fact.why else "")
        case Forgotten():
            text = fact.why or "its part counts no more"
        case United():
            text = f"{fact.count} contributions of {len(fact.parts)} nodes, {fact.seconds:.1f} s"
    return text


def _mixed_sentence(fact: Mixed) -> str:
    """A round in one line: who went in with which share, and what went wrong."""
    others = ", ".join(f"{parent['node'][:8]} {percent_text(parent['weight'])}" for parent in fact.parents)
    text = f"epoch {fact.epoch}, own {percent_text(fact.own_weight)}" + (f", {others}" if others else ", nobody else")
    if fact.refused:
        text += ", refused " + ", ".join(f"{entry['node'][:8]} ({entry['code']})" for entry in fact.refused)
    text += ", kept its own: the mix was worse" if fact.kept_own else ""
    text += ", training failed" if fact.training_failed else ""
    return text + f", {sum(fact.seconds.values()):.1f} s"
