"""JSON, pictures and a page from what was measured."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.selection.gate_suite import KINDS
from benchmarks.selection.gate_tables import DEFAULTS, evidence_of, false_positives, table, tuned
from benchmarks.selection.gate_trials import HONEST
from benchmarks.selection.page import page
from benchmarks.selection.plots import gates_picture, pools_picture
from benchmarks.selection.suite import SEEDS
from benchmarks.selection.summary import differences, summarise

Found = dict[str, Any]


def write_report(work: Path, output: Path) -> None:
    """Write ``figures.json``, pictures and ``report.md`` into ``output`` from what lies in ``work``; print the page.

    Raises SystemExit when nothing was measured.
    """
    figures: Found = {"environment": _environment()}
    records = _records(work)
    if records:
        figures["pools"] = summarise(records)
        figures["differences"] = differences(records)
    evidence = work / "gates" / "evidence.json"
    if evidence.exists():
        figures["gates"] = gate_figures(json.loads(evidence.read_text()))
    agreement = work / "agreement.json"
    if agreement.exists():
        figures["agreement"] = json.loads(agreement.read_text())
    if len(figures) == 1:
        raise SystemExit(f"{work} holds no results: run `python -m benchmarks.selection pool --work {work}` first")
    output.mkdir(parents=True, exist_ok=True)
    (output / "figures.json").write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")
    if "pools" in figures:
        pools_picture(figures["pools"], output / "pools.png")
    if "gates" in figures:
        gates_picture(figures["gates"], output / "gates.png")
    text = page(figures)
    (output / "report.md").write_text(text)
    print(text)


def gate_figures(found: Mapping[str, Any]) -> Found:
    """Tables of both splits, with default thresholds and with those that the tuning split gives."""
    trials = [record for record in found.values() if "evidence" in record]
    trials.sort(key=lambda record: (HONEST, *KINDS).index(record["kind"]))
    by_split = {name: [record for record in trials if record["split"] == name] for name in ("tuning", "test")}
    honest = [evidence_of(record["evidence"]) for record in by_split["tuning"] if record["kind"] == HONEST]
    options = {"defaults": DEFAULTS, "tuned": tuned(honest)}
    told: Found = {"options": options, "splits": {}}
    for split, records in by_split.items():
        told["splits"][split] = {
            "honest": sum(record["kind"] == HONEST for record in records),
            "signatures": found.get(f"{split}/signatures", {}),
            "backdoor": found.get(f"{split}/backdoor", {}),
            "cpu": {
                part: sum(r["cpu"][part] for r in records) / max(1, len(records)) for part in ("inspection", "rest")
            },
        }
        for name, chosen in options.items():
            rows = table(records, chosen)
            told["splits"][split][name] = {"rows": rows, "false_positives": false_positives(rows)}
    return told


def _records(work: Path) -> Sequence[Mapping[str, Any]]:
    files = [work / "pools" / f"seed-{seed}.json" for seed in SEEDS]
    return [record for file in files if file.exists() for record in json.loads(file.read_text()).values()]


def _environment() -> dict[str, str]:
    return {
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "CPU": platform.machine(),
    }
