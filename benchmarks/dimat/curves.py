"""Accuracy over rounds as a picture: one panel per split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.dimat.plan import ROWS
from benchmarks.dimat.summary import SPLIT_LABELS

COLOURS = ("#8a8a8a", "#d55e00", "#e69f00", "#0072b2", "#56b4e9", "#009e73")


def draw(summary: Mapping[str, Any], path: Path) -> None:
    """Solid: after mixing; dotted: after training, before mixing."""
    splits = summary["splits"]
    figure = Figure(figsize=(4.6 * len(splits), 4.2), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(splits), sharey=True, squeeze=False)[0]
    for axes, (split, rows) in zip(panels, splits.items(), strict=True):
        for row, colour in zip(ROWS, COLOURS, strict=True):
            if row.name in rows:
                curve = rows[row.name]
                rounds = range(1, len(curve["mixed"]) + 1)
                axes.plot(rounds, curve["mixed"], color=colour, marker="o", markersize=3.5, label=row.label)
                if row.name != "local":
                    axes.plot(rounds, curve["trained"], color=colour, linestyle=":", linewidth=1)
        axes.set(title=f"five nodes, data {SPLIT_LABELS[split]}", xlabel="round")
        axes.grid(axis="y", color="#ececec")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    panels[0].set_ylabel("test accuracy, mean of the nodes")
    panels[-1].legend(fontsize=7, loc="lower right")
    figure.savefig(path)
