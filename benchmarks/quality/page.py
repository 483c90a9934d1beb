"""The report as one HTML page that needs nothing else, and its tables as plain text."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

Summary = Mapping[str, Any]
Table = tuple[Sequence[str], Sequence[Sequence[str]]]

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:tabular-nums;font-size:13px}
th,td{padding:.2rem .6rem;border-bottom:1px solid #ddd;text-align:right}
th:first-child,td:first-child{text-align:left} img{max-width:100%} p{max-width:50rem}"""

_NOTES = {
    "kept-by-size.png": "Share of the experts' gain over the base that one merged model keeps.",
    "scales.png": "The same over the scale, as a factor of the method's own; the bars mark the norm rule.",
    "tasks.png": "Accuracy per task, in points to the experts of the task.",
    "orders.png": "Every order of arrival that was scored.",
}


def main_table(summary: Summary) -> Table:
    """Accuracy and share kept by size, scale by the norm rule, backward transfer, cost."""
    sizes = list(summary["sizes"])
    last = sizes[-1]
    ruled = [size for size in sizes if sum("kept_by_norm_rule" in _at(row, size) for row in summary["rows"]) > 1]
    by_norm = ruled[-1] if ruled else last
    head = ["method", *(f"kept, n={size}" for size in sizes), f"accuracy, n={last}", "± s.e."]
    head += [f"norm rule, n={by_norm}", "orders, points", "backward", "state MB", "CPU s/fold", "CPU s export"]
    rows = [
        _reference("base", summary, "base", "0 %"),
        _reference("experts", summary, "experts", "100 %"),
    ]
    rows += [_line(row, sizes, by_norm) for row in summary["rows"]]
    return head, rows


def _reference(label: str, summary: Summary, field: str, kept: str) -> list[str]:
    sizes = summary["sizes"]
    return [label, *(kept for _ in sizes), f"{sizes[list(sizes)[-1]][field]:.3f}", *[""] * 7]


def _at(row: Mapping[str, Any], size: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = row["sizes"].get(size, {})
    return found


def _line(row: Mapping[str, Any], sizes: Sequence[str], by_norm: str) -> list[str]:
    at, last = row["sizes"], sizes[-1]
    final = at.get(last, {})
    orders = final.get("kept_by_order", [0.0])
    return [
        row["label"],
        *(_percent(at[size]["kept"]) if size in at else "" for size in sizes),
        f"{final['accuracy']:.3f}" if final else "",
        f"{final['error']:.3f}" if final else "",
        _percent(_at(row, by_norm).get("kept_by_norm_rule")),
        _spread(row, orders),
        "" if row["backward_transfer"] is None else f"{100 * row['backward_transfer']:+.1f}",
        f"{row['state_bytes'] / 1e6:.0f}" if "state_bytes" in row else "",
        f"{row['fold_cpu'] / int(last):.2f}" if "fold_cpu" in row else "",
        f"{row['export_cpu']:.2f}" if "export_cpu" in row else "",
    ]


def _spread(row: Mapping[str, Any], orders: Sequence[float]) -> str:
    """Points between the best and the worst order; nothing where other orders were not measured."""
    if len(orders) > 1:
        return f"{100 * (max(orders) - min(orders)):.1f}"
    return "" if row["order_difference"] is None else "same model"


def task_table(summary: Summary) -> Table:
    """Accuracy per task at the largest size."""
    last = list(summary["sizes"])[-1]
    names = list(summary["base"]["tasks"])
    rows = [
        ["base", *(f"{summary['base']['tasks'][name]:.3f}" for name in names)],
        ["experts", *(f"{summary['ceiling']['tasks'][name]:.3f}" for name in names)],
    ]
    for row in summary["rows"]:
        if last in row["sizes"]:
            rows.append([row["label"], *(f"{row['sizes'][last]['tasks'][name]:.3f}" for name in names)])
    return ["method", *names], rows


def scale_table(summary: Summary) -> Table:
    """Share kept by factor of the own scale."""
    factors = next((list(one["kept"]) for by in summary["sweeps"].values() for one in by.values()), [])
    rows = [
        [label, count, *(_percent(one["kept"].get(name)) for name in factors), one["best"], f"{one['norm_factor']:.2f}"]
        for label, by_count in summary["sweeps"].items()
        for count, one in by_count.items()
    ]
    return ["method", "n", *factors, "best", "norm is"], rows


def plain(table: Table) -> str:
    """A table as aligned text."""
    head, rows = table
    widths = [max(len(line[column]) for line in [head, *rows]) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                  for column, (cell, width) in enumerate(zip(line, widths, strict=True))).rstrip()
        for line in [head, *rows]
    ]  # fmt: skip
    return "\n".join(lines)


def page(summaries: Sequence[Summary], plots: Sequence[Path], environment: Mapping[str, str]) -> str:
    """The whole page; pictures are inside it."""
    about = ", ".join(f"{escape(name)} {escape(value)}" for name, value in environment.items())
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>mergenode: quality of merges</title>",
        f"<style>{_STYLE}</style><h1>What a merge keeps of what its experts learnt</h1>",
        "<p>all-MiniLM-L6-v2, real text classification tasks, one full fine-tune per contribution, frozen heads. "
        "<i>Kept</i>: share of the experts' gain in mean accuracy over the base that one merged model keeps. "
        "<i>Norm rule</i>: the same update scaled to the mean norm of the contributions; task arithmetic's is "
        "the control. <i>Backward</i>: mean change of accuracy on earlier tasks, in points, from right after their "
        f"own fold to the end.</p><p>{about}</p>",
    ]
    for path in plots:
        data = b64encode(path.read_bytes()).decode()
        parts.append(f"<p>{_NOTES[path.name]}</p><img alt='{path.stem}' src='data:image/png;base64,{data}'>")
    for summary in summaries:
        recipe = summary["recipe"]
        parts.append(
            f"<h2>{escape(summary['setting'])} experts</h2><p>{summary['experts']} contributions, at most "
            f"{recipe['rows']} rows each, {recipe['epochs']} epochs; {summary['test_rows']} test rows.</p>"
        )
        parts += [_html(main_table(summary)), "<h3>Accuracy per task</h3>", _html(task_table(summary))]
        if summary["sweeps"]:
            parts += ["<h3>Kept by scale</h3>", _html(scale_table(summary))]
    return "\n".join(parts) + "\n"


def _html(table: Table) -> str:
    head, rows = table
    lines = ["".join(f"<th>{escape(cell)}" for cell in head)]
    lines += ["".join(f"<td>{escape(cell)}" for cell in row) for row in rows]
    return "<table><tr>" + "\n<tr>".join(lines) + "</table>"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"
