"""``accuracy.png``: accuracy per version, per task and on average, next to base and experts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mergenode.demo.results import Results
from mergenode.demo.scores import mean
from mergenode.demo.tasks import TASKS, missing_extra

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
"""Okabe and Ito's palette: told apart by colour-blind readers too."""
INK, FAINT = "#222222", "#8a8a8a"
LEAST_GAP = 4.2
"""Percent between two labels at the right margin."""


def require_matplotlib() -> None:
    """Raise UsageError now rather than after a minute of work when matplotlib is missing."""
    try:
        import matplotlib as _  # noqa: F401, PLC0415 - an extra, needed by the demo alone
    except ImportError as error:
        raise missing_extra("matplotlib") from error


def draw(results: Results, path: Path) -> None:
    """Draw the results of a finished demo into a PNG file of 1600x900 pixels.

    Raises:
        UsageError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(10.67, 6), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _lines(axes, results)
    _references(axes, results)
    _frame(axes, results)
    figure.savefig(path)


def _lines(axes: Any, results: Results) -> None:
    """One line per task from the base on, thin until its expert is folded; the mean over all of them on top."""
    steps = range(len(results.versions) + 1)
    rows = [results.base, *(version.scores for version in results.versions)]
    folded = [version.added for version in results.versions]
    labels = _references(axes, results)
    for task, colour in zip(TASKS, COLOURS, strict=True):
        heights = [100 * row[task.name] for row in rows]
        enters = folded.index(task.name) + 1
        axes.plot(steps[: enters + 1], heights[: enters + 1], color=colour, lw=1.1, alpha=0.45, zorder=2)
        axes.plot(steps[enters:], heights[enters:], color=colour, lw=2.2, zorder=3)
        axes.plot(enters, heights[enters], "o", color=colour, ms=8, mec="white", mew=1.5, zorder=4)
        labels.append((heights[-1], f"{task.name} {heights[-1]:.0f}%", colour))
    means = [100 * mean(row) for row in rows]
    axes.plot(steps, means, color=INK, lw=4, zorder=5, solid_capstyle="round")
    axes.plot(steps, means, "o", color=INK, ms=7, mec="white", mew=1.5, zorder=6)
    labels.append((means[-1], f"mean {means[-1]:.0f}%", INK))
    for height, (_, label, colour) in zip(_spread([each[0] for each in labels]), labels, strict=True):
        weight = "bold" if colour == INK else "normal"
        axes.text(len(steps) - 0.86, height, label, color=colour, va="center", fontsize=11, fontweight=weight)


def _references(axes: Any, results: Results) -> list[tuple[float, str, str]]:
    """What the merge is measured against: the base, plain averaging, six separate experts. Returns the labels."""
    experts = sum(results.experts[task.name][task.name] for task in TASKS) / len(TASKS)
    labels = []
    for share, label in (
        (experts, "six experts"),
        (mean(results.average), "plain average"),
        (mean(results.base), "base"),
    ):
        axes.hlines(100 * share, -0.3, len(results.versions) + 0.1, color=FAINT, lw=1.3, ls=(0, (5, 3)), zorder=1)
        labels.append((100 * share, f"{label} {100 * share:.0f}%", FAINT))
    return labels


def _frame(axes: Any, results: Results) -> None:
    killed = {kill.name for kill in results.kills}
    labels = ["base"] + [
        f"v{version.version}\n+ {version.added}" + ("\n(SIGKILL)" if version.added in killed else "")
        for version in results.versions
    ]
    axes.set_xticks(range(len(labels)), labels, fontsize=10)
    axes.set_xlim(-0.32, len(labels) + 0.05)
    axes.set_ylim(0, 106)
    axes.set_yticks(range(0, 101, 20), [f"{height}%" for height in range(0, 101, 20)], fontsize=10)
    axes.grid(axis="y", color="#ececec", zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#cccccc")
    kept = results.versions[-1].gain_kept
    axes.set_title(
        f"One merged model learns six tasks, one fine-tune at a time, and keeps {100 * kept:.0f}% of the experts' gain",
        loc="left", fontsize=13, fontweight="bold", color=INK, pad=26,
    )  # fmt: skip
    axes.text(
        0, 1.03, "Test accuracy of every published version; a dot marks the version whose fold brought the task in.",
        transform=axes.transAxes, fontsize=10.5, color="#5a5a5a",
    )  # fmt: skip


def _spread(heights: Sequence[float]) -> list[float]:
    """Label heights at least ``LEAST_GAP`` apart, in the order of ``heights``, centred on where they belong."""
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    placed = [heights[index] for index in order]
    for _ in range(200):
        for lower in range(len(placed) - 1):
            overlap = LEAST_GAP - (placed[lower + 1] - placed[lower])
            if overlap > 0:
                placed[lower] -= overlap / 2
                placed[lower + 1] += overlap / 2
    spread = [0.0] * len(heights)
    for position, index in enumerate(order):
        spread[index] = placed[position]
    return spread
