"""The picture of the report: fall of the worst score over folds, and when alerts fire."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib.figure import Figure


def draw(summary: Mapping[str, Any], target: Path) -> None:
    """One panel per kind of bad contributions."""
    kinds = list(dict.fromkeys(row["kind"] for row in summary["bad"]))
    figure = Figure(figsize=(3.4 * len(kinds), 3.2), dpi=80, layout="constrained")
    for number, kind in enumerate(kinds, start=1):
        axes = figure.add_subplot(1, len(kinds), number)
        for colour, row in zip(("#26c", "#2a8", "#d90"), _rows(summary, kind), strict=False):
            axes.plot([100 * max(0.0, fall) for fall in row["falls"]], color=colour, label=f"seed {row['seed']}")
            if row["first_alert"] is not None:
                axes.axvline(row["first_alert"], color=colour, linestyle=":", linewidth=1.5)
        axes.axhline(2.0, color="#c33", linewidth=0.8)
        axes.set(title=kind, xlabel="fold", ylim=(0, None))
        axes.grid(alpha=0.3)
        if number == 1:
            axes.set_ylabel("fall of the worst score, points")
            axes.legend(fontsize=7)
    figure.savefig(target, metadata={"Software": ""})


def _rows(summary: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    return [row for row in summary["bad"] if row["kind"] == kind]
