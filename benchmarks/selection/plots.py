"""The pictures of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]

LINES = (
    ("task arithmetic 0.3", "none", "task arithmetic 0.3", "#c33", "o"),
    ("average (1/n)", "none", "average", "#d90", "s"),
    ("FW hard", "none", "FW hard, long vectors as they are", "#888", "v"),
    ("FW hard", "clip", "FW hard", "#26c", "^"),
    ("FW soft", "clip", "FW soft", "#2a8", "D"),
    ("FW hard, then the best scale", "clip", "FW hard, then the best scale", "#0ac", "X"),
    ("FW hard, then tsvm", "clip", "FW hard, then TSVM", "#72c", "P"),
)
"""Label and screen of a row, what the legend calls it, colour, mark."""


def pools_picture(rows: Rows, target: Path) -> None:
    """Accuracy on the targets over the number of irrelevant ones, of other tasks' experts, and of relevant ones."""
    figure = Figure(figsize=(13, 4.2), dpi=90, layout="constrained")
    panels = (
        ("irrelevant", "irrelevant or harmful beside 4 relevant"),
        ("other tasks", "experts of other tasks beside 4 relevant"),
        ("", "relevant, nothing else"),
    )
    first: Axes | None = None
    for number, (kind, title) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, 3, number, sharey=first)
        first = first or axes
        for label, screen, name, colour, mark in LINES:
            points = sorted(_points(rows, label, screen, kind))
            if points:
                places, values, errors = zip(*points, strict=True)
                axes.errorbar(places, values, errors, label=name, color=colour, marker=mark, markersize=5, capsize=2)
        axes.set(xlabel=title, ylabel="accuracy on the four targets" if number == 1 else None)
        axes.grid(alpha=0.3)
        if number == 2:
            axes.legend(fontsize=7, loc="lower left")
    figure.savefig(target, metadata={"Software": ""})


def _points(rows: Rows, label: str, screen: str, kind: str) -> list[tuple[int, float, float]]:
    points = []
    for row in rows:
        fits = row["label"] == label and row["screen"] == screen and "accuracy" in row
        clean = row["relevant"] == 4 and not row["others"]
        if fits and kind and (clean or row["kind"] == kind):
            points.append((row["others"], row["accuracy"], row["error"] or 0.0))
        elif fits and not kind and not row["others"]:
            points.append((row["relevant"], row["accuracy"], row["error"] or 0.0))
    return points


def gates_picture(found: Mapping[str, Any], target: Path) -> None:
    """Which gate speaks against which kind, on the test split, default thresholds; honest ones as a share."""
    part = found["splits"]["test"]["defaults"]
    names = list(part["false_positives"])
    honest = found["splits"]["test"]["honest"]
    rows = [row for row in part["rows"] if row["kind"] != "honest"]
    grid = [[1.0 if gate in row["messages"] else 0.0 for gate in names] for row in rows]
    positives = part["false_positives"].values()
    grid.append([len(told["names"]) / max(1, told["judged"]) for told in positives])
    figure = Figure(figsize=(8.5, 0.34 * len(grid) + 1.6), dpi=90, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(grid, cmap="Blues", vmin=0, vmax=1.3, aspect="auto")
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=8)
    axes.set_yticks(range(len(grid)), [*(row["kind"] for row in rows), f"honest ({honest})"], fontsize=8)
    for y, values in enumerate(grid):
        for x, value in enumerate(values):
            if value:
                text = "speaks" if y < len(rows) else f"{100 * value:.0f}%"
                axes.text(x, y, text, ha="center", va="center", fontsize=7)
    figure.savefig(target, metadata={"Software": ""})
