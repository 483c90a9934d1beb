"""The demo on the terminal: one line per event, one row per set of weights, tables at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mergenode.demo.results import Kill, Rejection
from mergenode.demo.scores import Scores, mean
from mergenode.demo.tasks import HOME, TASKS

LABEL, CELL = 24, 9
COLUMNS = (*(task.name for task in TASKS), HOME.name)
LOW, HIGH = 0.5, 0.8
WHOLE_MODEL = "*"


class Report:
    """Writes to one console; keeps nothing."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def chapter(self, title: str) -> None:
        self.console.print()
        self.console.print(Text(title, style="bold cyan"))

    def say(self, text: str, style: str = "") -> None:
        """One event. Names and messages come from outside the demo's control: never read as markup."""
        self.console.print(Text(f"  {text}", style=style), soft_wrap=True)

    def score_header(self) -> None:
        cells = "".join(f"{name:>{CELL}}" for name in (*COLUMNS, "mean", "kept"))
        self.console.print(Text(f"  {'accuracy in %':<{LABEL}}{cells}", style="bold"), soft_wrap=True)

    def score_row(self, label: str, scores: Scores, kept: float | None = None, inside: Sequence[str] = ()) -> None:
        """Accuracy per field; ``inside`` names the tasks whose expert is in these weights, drawn bold."""
        row = Text(f"  {label:<{LABEL}}")
        for name in COLUMNS:
            row.append(_percent(scores[name]), _colour(scores[name]) + (" bold" if name in inside else ""))
        row.append(_percent(mean(scores)), "bold")
        row.append("" if kept is None else _percent(kept), "bold")
        self.console.print(row, soft_wrap=True)

    def rejections(self, rejections: Sequence[Rejection]) -> None:
        table = _table("push", "reason", "message")
        for each in rejections:
            table.add_row(each.name, Text(each.reason, style="red"), Text(each.message))
        self.console.print(Padding(table, (0, 0, 0, 2)))

    def drift(self, drift: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Per contribution the whole model, then per layer group what the last contribution met."""
        table = _table("contribution", "norm", "cosine", "share kept", "merge / base")
        for name, groups in drift.items():
            whole = next(group for group in groups if group["group"] == WHOLE_MODEL)
            table.add_row(name, *_drift_cells(whole))
        self.console.print(Padding(table, (0, 0, 1, 2)))
        last = list(drift)[-1]
        table = _table(f"layer group ({last})", "norm", "cosine", "share kept", "merge / base")
        for group in drift[last]:
            if group["group"] != WHOLE_MODEL:
                table.add_row(Text(str(group["group"])), *_drift_cells(group))
        self.console.print(Padding(table, (0, 0, 0, 2)))

    def kill(self, kill: Kill) -> None:
        found = ", ".join(kill.files) or "finished statistics, moved into place"
        self.say(f"found in the frozen node's state: {found} ({kill.size_bytes:,} bytes); no fact in the ledger yet")

    def next_steps(self, commands: Sequence[tuple[str, str]]) -> None:
        width = max(len(command) for command, _ in commands)
        for command, purpose in commands:
            line = Text("  ").append(f"{command:<{width}}", "green").append(f"  {purpose}", "dim")
            self.console.print(line, soft_wrap=True)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    numbers = {"norm", "cosine", "share kept", "merge / base"}
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return table


def _drift_cells(group: Mapping[str, Any]) -> tuple[str, str, str, str]:
    cosine, kept, base = group["cosine"], group["share_kept"], group["base_norm"]
    return (
        f"{group['delta_norm']:.3f}",
        "-" if cosine is None else f"{cosine:+.3f}",
        "-" if kept is None else f"{100 * kept:.1f}%",
        f"{100 * group['merge_norm'] / base:.1f}%" if base else "-",
    )


def _percent(share: float) -> str:
    return f"{100 * share:{CELL}.1f}"


def _colour(share: float) -> str:
    return "red" if share < LOW else "green" if share >= HIGH else "yellow"
