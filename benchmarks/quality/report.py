"""JSON, pictures and page from what was measured."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.quality.page import main_table, page, plain
from benchmarks.quality.plots import write_plots
from benchmarks.quality.summary import orders_of, summarise, with_orders
from benchmarks.quality.tasks import TASKS

SETTINGS_SHOWN = ("light", "strong", "many")


def write_report(work: Path, output: Path, *, onto: bool = False) -> None:
    """Write ``figures.json``, four PNG files and ``index.html`` into ``output``; print the tables.

    ``onto``: the rows that ``run --only`` measured take their places in the figures that ``output`` holds; other orders
    that were measured alone (``--parts orders``) join the rows there.

    Raises SystemExit when nothing was measured in ``work``, or with other experts than those of ``output``.
    """
    old = _read(output / "figures.json") if onto else {}
    files = {name: work / (f"{name}-rows.json" if onto else f"{name}.json") for name in SETTINGS_SHOWN}
    new = {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}
    if not new:
        raise SystemExit(f"{work} holds no results: run `python -m benchmarks.quality run --work {work}` first")
    found = {**old, **{name: _placed(old.get(name), told) for name, told in new.items()}}
    summaries = [found[name] for name in SETTINGS_SHOWN if name in found]
    output.mkdir(parents=True, exist_ok=True)
    environment = {
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "CPU": platform.machine(),
    }
    figures = {"environment": environment, "settings": found}
    text = json.dumps(figures, indent=1, sort_keys=True)
    (output / "figures.json").write_text(text + "\n")
    plots = write_plots(summaries, output)
    (output / "index.html").write_text(page(summaries, plots, environment))
    for summary in summaries:
        print(f"\n{summary['setting']} experts\n{plain(main_table(summary))}")


def _read(file: Path) -> dict[str, Any]:
    """The settings of a report that was written, numbers of contributions and tasks in the order of the plan again."""
    settings: dict[str, Any] = json.loads(file.read_text())["settings"]
    for told in settings.values():
        for holder in (told, *told["rows"]):
            holder["sizes"] = {size: holder["sizes"][size] for size in sorted(holder["sizes"], key=int)}
        for reference in (told["base"], told["ceiling"]):
            reference["tasks"] = {task: reference["tasks"][task] for task in sorted(reference["tasks"], key=_place)}
    return settings


def _place(task: str) -> int:
    return TASKS.index(task) if task in TASKS else len(TASKS)


def _placed(old: dict[str, Any] | None, measured: dict[str, Any]) -> dict[str, Any]:
    """``old`` with what was measured. The same experts on the same rows, or no figure could be compared."""
    new = summarise(measured)
    if old is None:
        return new
    for name in ("recipe", "experts", "test_rows", "base", "ceiling"):
        if old[name] != new[name]:
            raise SystemExit(
                f"{name} of setting {new['setting']!r} are not those of the report: measure all rows again"
            )
    rows = {row["label"]: row for row in (*old["rows"], *new["rows"])}
    orders = orders_of(measured)
    if not orders.keys() <= rows.keys():
        raise SystemExit(f"{', '.join(sorted(orders.keys() - rows.keys()))}: no such row to add orders to")
    rows = {label: with_orders(row, orders) for label, row in rows.items()}
    return {**old, "rows": list(rows.values()), "sweeps": {**old["sweeps"], **new["sweeps"]}}
