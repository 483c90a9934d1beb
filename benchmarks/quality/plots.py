"""The four pictures of the report. Each takes the summaries of all settings and writes one PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Summaries = Sequence[Mapping[str, Any]]
_MARKS = "osv^D<>Xph*P"


def write_plots(summaries: Summaries, output: Path) -> list[Path]:
    """Write all pictures into the existing directory ``output``; returns their paths."""
    drawn = {
        "kept-by-size.png": (kept_by_size, 4.6),
        "scales.png": (scales, 4.6),
        "tasks.png": (tasks, 6.5),
        "orders.png": (orders, 4.6),
    }
    paths = []
    for name, (draw, height) in drawn.items():
        figure = Figure(figsize=(6.0 * len(summaries), height), dpi=80, layout="constrained")
        for number, summary in enumerate(summaries, start=1):
            draw(figure.add_subplot(1, len(summaries), number), summary)
        figure.savefig(output / name, metadata={"Software": ""})
        paths.append(output / name)
    return paths


def _style(number: int) -> dict[str, Any]:
    return {"color": colormaps["tab20"](number % 20), "marker": _MARKS[number % len(_MARKS)], "markersize": 4}


def kept_by_size(axes: Axes, summary: Mapping[str, Any]) -> None:
    """Share of the experts' gain kept over the number of contributions, one line per method."""
    for number, row in enumerate(summary["rows"]):
        sizes = [int(size) for size in row["sizes"]]
        kept = [100 * row["sizes"][str(size)]["kept"] for size in sizes]
        axes.plot(sizes, kept, label=row["label"], **_style(number))
    axes.set(title=f"{summary['setting']} experts", xlabel="contributions", ylabel="kept of the experts' gain, %")
    axes.axhline(100, color="grey", linewidth=0.8)
    axes.legend(fontsize=6, ncols=2)


def scales(axes: Axes, summary: Mapping[str, Any]) -> None:
    """Share kept over the factor of the method's own export, at the largest swept number of contributions."""
    if not summary["sweeps"]:
        axes.set_axis_off()
        axes.text(0.5, 0.5, f"{summary['setting']} experts: no factors measured", ha="center", va="center")
        return
    for number, (label, by_count) in enumerate(summary["sweeps"].items()):
        count = max(by_count, key=int)
        kept = by_count[count]["kept"]
        factors = [name for name in kept if name != "norm"]
        style = _style(number)
        axes.plot([float(name) for name in factors], [100 * kept[name] for name in factors], label=label, **style)
        axes.plot(
            [by_count[count]["norm_factor"]], [100 * kept["norm"]], color=style["color"], marker="|", markersize=14
        )
    counts = {max(by_count, key=int) for by_count in summary["sweeps"].values()}
    shown = f"{summary['setting']} experts, {'/'.join(sorted(counts))} contributions (|: norm rule)"
    axes.set(title=shown, xlabel="factor of the own scale", ylabel="kept of the experts' gain, %")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=6, ncols=2)


def tasks(axes: Axes, summary: Mapping[str, Any]) -> None:
    """Accuracy per task and method at the largest size, in points below the task's experts."""
    size = max(summary["sizes"], key=int)
    rows = [row for row in summary["rows"] if size in row["sizes"]]
    names = list(summary["ceiling"]["tasks"])
    gaps = [[100 * (summary["base"]["tasks"][name] - summary["ceiling"]["tasks"][name]) for name in names]]
    gaps += [
        [100 * (row["sizes"][size]["tasks"][name] - summary["ceiling"]["tasks"][name]) for name in names]
        for row in rows
    ]
    axes.imshow(gaps, cmap="RdYlGn", vmin=-30, vmax=5, aspect="auto")
    for y, line in enumerate(gaps):
        for x, gap in enumerate(line):
            axes.text(x, y, f"{gap:+.0f}", ha="center", va="center", fontsize=7)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(gaps)), ["base", *(row["label"] for row in rows)], fontsize=8)
    axes.set_title(f"{summary['setting']} experts, {size} contributions: points to the expert", fontsize=10)


def orders(axes: Axes, summary: Mapping[str, Any]) -> None:
    """Spread over the orders of arrival that was scored at the largest size."""
    size = max(summary["sizes"], key=int)
    rows = [row for row in summary["rows"] if size in row["sizes"]]
    for y, row in enumerate(rows):
        kept = [100 * value for value in row["sizes"][size]["kept_by_order"]]
        axes.plot([min(kept), max(kept)], [y, y], color="tab:blue", linewidth=4, alpha=0.4)
        axes.plot(kept, [y] * len(kept), "o", color="tab:blue", markersize=4)
    axes.set_yticks(range(len(rows)), [row["label"] for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set(title=f"{summary['setting']} experts, {size} contributions: orders", xlabel="kept of the experts' gain, %")
