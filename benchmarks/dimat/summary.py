"""Means over seeds, the table of the README, and what it promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from benchmarks.dimat.plan import ROWS

GAP = 0.30
"""Accuracy that activation matching is ahead of plain averaging by after the first mix, data alike."""
SPLIT_LABELS = {"iid": "alike", "dirichlet": "Dirichlet 0.5", "classes": "two classes each"}


def summarise(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """By split and row: curves (mean over seeds of the mean over nodes) and the values of each seed."""
    found: dict[str, Any] = {}
    for split in SPLIT_LABELS:
        for row in ROWS:
            runs = [each for each in results if (each["split"], each["row"]) == (split, row.name)]
            if runs:
                found.setdefault(split, {})[row.name] = _row(runs)
    return {"schema": "mergenode.benchmark.dimat/1", "splits": found}


def _row(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    curves = {key: [[fmean(step[key]) for step in run["steps"]] for run in runs] for key in ("trained", "mixed")}
    finals = [run["one_average"] for run in runs if run["one_average"] is not None]
    return {
        "seeds": [run["seed"] for run in runs],
        "trained": [fmean(values) for values in zip(*curves["trained"], strict=True)],
        "mixed": [fmean(values) for values in zip(*curves["mixed"], strict=True)],
        "distance": [fmean(v) for v in zip(*([s["distance"] for s in run["steps"]] for run in runs), strict=True)],
        "moved": [fmean(v) for v in zip(*([s["moved"] for s in run["steps"]] for run in runs), strict=True)],
        "first": [curve[0] for curve in curves["mixed"]],
        "last": [curve[-1] for curve in curves["mixed"]],
        "one_average": finals,
        "cpu_seconds": fmean(run["cpu_seconds"] for run in runs),
    }


def table(summary: Mapping[str, Any]) -> str:
    """Markdown: mean over seeds, with the standard deviation of the last round."""
    lines = [
        "| data | method | trained alone | after the first mix | after the last round | then one average of all |",
        "|---|---|---|---|---|---|",
    ]
    for split, rows in summary["splits"].items():
        for row in ROWS:
            if row.name in rows:
                got = rows[row.name]
                first = "" if row.name == "local" else f"{fmean(got['first']):.3f}"
                cells = [SPLIT_LABELS[split], row.label, f"{got['trained'][0]:.3f}", first, _spread(got["last"])]
                lines.append("| " + " | ".join([*cells, _spread(got["one_average"])]) + " |")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    return f"{fmean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def broken(summary: Mapping[str, Any]) -> list[str]:
    """What does not hold of: data alike, activation matching is ahead by ``GAP`` after the first mix, and in the end at
    least as good as nodes that trained alone for as long."""
    rows = summary["splits"].get("iid")
    if rows is None:
        return []
    wrong = []
    gap = fmean(rows["activations"]["first"]) - fmean(rows["plain"]["first"])
    if gap < GAP:
        wrong.append(f"after the first mix activation matching is {gap:+.3f} against plain averaging, not {GAP:+.2f}")
    ahead = fmean(rows["activations"]["last"]) - fmean(rows["local"]["last"])
    if ahead < 0:
        wrong.append(f"after the last round activation matching is {ahead:+.3f} against training alone")
    return wrong
