"""From evidence to the table of kinds and gates, with default thresholds and with those of the tuning split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.selection.gate_trials import FROZEN_PATTERNS
from mergenode.gates import build_gate
from mergenode.gates.contract import Gate, Outcome, judge_all
from mergenode.gates.evidence import (
    Descent,
    Evidence,
    GroupEvidence,
    MatrixSpectrum,
    SignatureEvidence,
    SignatureStatus,
    SpectraSummary,
)

Record = dict[str, Any]

DEFAULTS: Mapping[str, Mapping[str, object]] = {
    "signature": {"keys": {"*": ("ed25519:operator",)}},
    "finite": {},
    "frozen": {"patterns": FROZEN_PATTERNS},
    "norm": {},
    "alignment": {},
    "sign_conflict": {},
    "top_share": {},
    "frank_wolfe_sign": {},
    "evaluation": {},
}
"""Every gate with its own defaults; keys and patterns are what only an operator can choose."""

MARGINS = {"ratio": 1.5, "cosine": 0.05, "share_kept": 0.5, "conflict": 0.02, "excess": 0.1, "drop": 0.02}
"""How far beyond the worst honest checkpoint of the tuning split a tuned threshold lies; chosen before any result."""


def evidence_of(record: Mapping[str, Any]) -> Evidence:
    """The evidence that was kept as JSON."""
    told = dict(record)
    told["groups"] = {name: GroupEvidence(**group) for name, group in told["groups"].items()}
    told["history"] = {name: tuple(norms) for name, norms in told["history"].items()}
    if told["spectra"]:
        worst = told["spectra"]["worst"]
        told["spectra"] = SpectraSummary(
            matrices=told["spectra"]["matrices"],
            median=tuple(told["spectra"]["median"]),
            worst=MatrixSpectrum(**{**worst, "shares": tuple(worst["shares"])}) if worst else None,
        )
    if told["descent"]:
        told["descent"] = Descent(**told["descent"])
    if told["signature"]:
        status = SignatureStatus(told["signature"]["status"])
        told["signature"] = SignatureEvidence(**{**told["signature"], "status": status})
    for name in ("not_finite", "frozen_changed"):
        told[name] = tuple(told[name]) if told[name] is not None else None
    return Evidence(**told)


def gates(options: Mapping[str, Mapping[str, object]]) -> list[Gate]:
    """The gates with these options, in the order of the table."""
    return [build_gate(name, chosen) for name, chosen in options.items()]


def tuned(honest: Sequence[Evidence]) -> dict[str, dict[str, object]]:
    """Options that pass every honest checkpoint of the tuning split, with the margins above.

    The slope of the objective has no threshold to choose: its limit is zero.
    """
    whole = [evidence.groups["*"] for evidence in honest]
    ratios = [evidence.groups["*"].norm / median(evidence.history["*"]) for evidence in honest]
    options = {name: dict(chosen) for name, chosen in DEFAULTS.items()}
    options["norm"] |= {"max_ratio": MARGINS["ratio"] * max(ratios), "max_deviations": 0.0}
    options["norm"]["max_group_ratio"] = MARGINS["ratio"] * max(map(_group_ratio, honest))
    options["alignment"] |= {
        "min_cosine": min(group.cosine for group in whole if group.cosine is not None) - MARGINS["cosine"],
        "min_share_kept": MARGINS["share_kept"] * min(g.share_kept for g in whole if g.share_kept is not None),
    }
    conflicts = [group.sign_conflict for group in whole if group.sign_conflict is not None]
    options["sign_conflict"] |= {"max_share": max(conflicts) + MARGINS["conflict"]}
    excess = [evidence.spectra.median[0] for evidence in honest if evidence.spectra]
    options["top_share"] |= {"max_excess": max(value for value in excess if value is not None) + MARGINS["excess"]}
    options["evaluation"] |= {"max_drop": max(map(_drop, honest)) + MARGINS["drop"]}
    return options


def _group_ratio(evidence: Evidence) -> float:
    """The largest ratio to the median that the norm gate would look at."""
    whole = median(evidence.history["*"])
    middles = {name: median(norms) for name, norms in evidence.history.items() if name != "*"}
    judged = [name for name, middle in middles.items() if middle > 0.05 * whole and name in evidence.groups]
    return max(evidence.groups[name].norm / middles[name] for name in judged)


def _drop(evidence: Evidence) -> float:
    before, after = evidence.scores_before or {}, evidence.scores_after or {}
    return max((score - after[name] for name, score in before.items() if name in after), default=0.0)


def table(records: Sequence[Mapping[str, Any]], options: Mapping[str, Mapping[str, object]]) -> list[Record]:
    """One row per record: kind, name, and what each gate says (its reason code, "passed" or "silent")."""
    chosen = gates(options)
    rows = []
    for record in records:
        findings = judge_all(chosen, evidence_of(record["evidence"]))
        said = {finding.gate: finding.reason.value if finding.reason else finding.outcome.value for finding in findings}
        messages = {finding.gate: finding.message for finding in findings if finding.failed}
        rows.append({"kind": record["kind"], "name": record["name"], "said": said, "messages": messages})
    return rows


def false_positives(rows: Sequence[Record]) -> dict[str, Record]:
    """Gate -> how many honest checkpoints it had evidence to judge, and the names of those it speaks against."""
    honest = [row for row in rows if row["kind"] == "honest"]
    return {
        gate: {
            "judged": sum(row["said"][gate] != Outcome.SILENT for row in honest),
            "names": [row["name"] for row in honest if gate in row["messages"]],
        }
        for gate in DEFAULTS
    }
