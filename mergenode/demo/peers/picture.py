"""``peers.png``: what each way of mixing is worth, and what the real nodes went through."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mergenode.demo.peers.results import PeersResults
from mergenode.demo.peers.ring import ACTIVATIONS, LOCAL, PLAIN, WEIGHTS
from mergenode.demo.picture import COLOURS, FAINT, INK, require_matplotlib

METHOD_COLOURS = {LOCAL: FAINT, PLAIN: "#d55e00", WEIGHTS: "#e69f00", ACTIVATIONS: "#0072b2"}


def draw(results: PeersResults, labels: Mapping[str, str], path: Path) -> None:
    """Draw a finished demo into a PNG file of 1600x750 pixels.

    Raises:
        UsageError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(10.67, 5), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _methods(left, results, labels)
    _nodes(right, results)
    for axes in (left, right):
        axes.grid(axis="y", color="#ececec", zorder=0)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    left.set_ylabel("test accuracy after mixing, %")
    figure.savefig(path)


def _methods(axes: Any, results: PeersResults, labels: Mapping[str, str]) -> None:
    for method, means in results.references.items():
        rounds = range(1, len(means) + 1)
        axes.plot(
            rounds, [100 * mean for mean in means], "o-", color=METHOD_COLOURS[method], ms=4, label=labels[method]
        )
    axes.legend(fontsize=9, loc="lower right", frameon=False)
    axes.set_xlabel("mix")
    axes.set_title(
        "Different initialisations: mean of five nodes", loc="left", fontsize=11, fontweight="bold", color=INK
    )


def _nodes(axes: Any, results: PeersResults) -> None:
    """One line per node over time; what was done to them as bands."""
    start = min((each.when for each in results.mixings), default=0.0)
    for number, node in enumerate(sorted({each.node for each in results.mixings})):
        own = [each for each in results.mixings if each.node == node]
        seconds, scores = [each.when - start for each in own], [100 * each.mixed for each in own]
        axes.plot(seconds, scores, "o-", color=COLOURS[number % len(COLOURS)], ms=3.5, lw=1.2, label=node)
    for event, colour in zip(results.events, ("#d55e00", "#56b4e9"), strict=False):
        axes.axvspan(event.start - start, event.end - start, color=colour, alpha=0.15, lw=0)
        middle = (event.start + event.end) / 2 - start
        axes.text(middle, 0.12, event.what, rotation=90, ha="center", va="bottom", fontsize=9,
                  color=INK, transform=axes.get_xaxis_transform())  # fmt: skip
    axes.legend(fontsize=8, loc="lower center", ncols=5, frameon=False, handlelength=1.2, columnspacing=1.0)
    axes.set_xlabel("seconds since the first mix")
    axes.set_title(
        "Five real processes, gRPC, activation matching", loc="left", fontsize=11, fontweight="bold", color=INK
    )
