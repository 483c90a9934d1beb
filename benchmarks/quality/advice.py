"""What `mergenode advise` and docs/which-method.md say, taken from the figures of the benchmark.

    python -m benchmarks.quality.advice --work DIR

reads the report's ``figures.json`` and the experts below DIR, writes ``mergenode/bootstrap/measured.json`` and the
table of the documentation. A test compares both with the report.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from textwrap import wrap
from typing import Any

from safetensors import safe_open

from benchmarks.quality.contestants import contestants

ROOT = Path(__file__).parents[2]
REPORT = Path(__file__).with_name("report") / "figures.json"
MEASURED = ROOT / "mergenode" / "bootstrap" / "measured.json"
PAGE = ROOT / "docs" / "which-method.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
ORDERS_BEGIN, ORDERS_END = "<!-- orders: begin -->", "<!-- orders: end -->"

COLUMNS = (("light", "8"), ("light", "9"), ("strong", "9"), ("many", "18"), ("many", "36"))
"""Settings and numbers of contributions of the documentation's table."""


def measured(figures: Mapping[str, Any], norms: Mapping[str, float]) -> dict[str, Any]:
    """What the package ships: shares kept by setting, number of contributions, method and options.

    Without rows that were refined: that is done to a merge, whatever made it.
    """
    settings = {}
    refined = {row.label for row in contestants() if row.refined}
    for name, told in sorted(figures["settings"].items()):
        rows = [
            {
                "method": row["method"],
                "options": row["options"],
                "sizes": {
                    size: {"kept": round(found["kept"], 4), "error": round(found["kept_error"], 4)}
                    for size, found in row["sizes"].items()
                },
            }
            for row in told["rows"]
            if row["method"] != "opcm_literal" and row["sizes"] and row["label"] not in refined
        ]
        settings[name] = {"relative_norm": round(norms[name], 5), "rows": rows}
    return {"settings": settings}


def table(figures: Mapping[str, Any]) -> str:
    """Shares kept as a Markdown table, best at the largest number of contributions first."""
    columns = [(name, size) for name, size in COLUMNS if size in figures["settings"].get(name, {}).get("sizes", {})]
    rows: dict[str, dict[tuple[str, str], str]] = {}
    order: dict[str, float] = {}
    for name, size in columns:
        for row in figures["settings"][name]["rows"]:
            found = row["sizes"].get(size)
            if found is not None:
                rows.setdefault(row["label"], {})[name, size] = f"{100 * found['kept']:.0f} %"
                order[row["label"]] = found["kept"]
    head = ["method", *(f"{name}, {size}" for name, size in columns)]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for label in sorted(rows, key=lambda label: -order[label]):
        cells = [rows[label].get(column, "") for column in columns]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def orders(figures: Mapping[str, Any]) -> str:
    """Where other orders of arrival were scored, a Markdown table of the shares kept; where only the weights of the
    merges were compared, how far they lie apart."""
    rows: dict[str, dict[tuple[str, str], str]] = {}
    apart: dict[str, float] = {}
    for name, size in COLUMNS:
        for row in figures["settings"].get(name, {}).get("rows", ()):
            kept = [100 * share for share in row["sizes"].get(size, {}).get("kept_by_order", ())]
            if len(kept) > 1:
                cell = f"{fmean(kept):.1f} % ({', '.join(f'{share:.1f}' for share in kept)})"
                rows.setdefault(row["label"], {})[name, size] = cell
            if row["order_difference"] is not None:
                apart[row["label"]] = max(row["order_difference"], apart.get(row["label"], 0.0))
    columns = [column for column in COLUMNS if any(column in cells for cells in rows.values())]
    head = ["mean (each order)", *(f"{name}, {size}" for name, size in columns)]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [
        f"| {label} | {' | '.join(cells.get(column, '') for column in columns)} |" for label, cells in rows.items()
    ]
    differences = [f"{label} {_scientific(apart[label])}" for label in sorted(apart, key=lambda label: -apart[label])]
    if differences:
        lines += ["", *wrap(f"Largest relative difference of weights: {', '.join(differences)}.", 120)]
    return "\n".join(lines)


def _scientific(number: float) -> str:
    return f"{number:.0e}" if number else "0"


def with_table(page: str, figures: Mapping[str, Any]) -> str:
    """The page with the table and the orders between their marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    page = f"{before}{BEGIN}\n{table(figures)}\n{END}{after}"
    before, _, rest = page.partition(ORDERS_BEGIN)
    _, _, after = rest.partition(ORDERS_END)
    return f"{before}{ORDERS_BEGIN}\n{orders(figures)}\n{ORDERS_END}{after}"


def relative_norm(base: Path, expert: Path) -> float:
    """Norm of an expert's matrices' update over that of the base's matrices, as a node computes it."""
    moved = whole = 0.0
    with safe_open(base / "model.safetensors", "pt") as one, safe_open(expert / "model.safetensors", "pt") as other:
        for name in one.keys():  # noqa: SIM118 - not a mapping
            weight = one.get_tensor(name)
            if weight.is_floating_point() and weight.ndim > 1:
                moved += float((other.get_tensor(name).double() - weight.double()).square().sum())
                whole += float(weight.double().square().sum())
    return (moved / whole) ** 0.5


def mean_relative_norm(work: Path, setting: str) -> float:
    """Mean over the experts of a setting; what the package ships already where they are not below ``work``."""
    experts = work / "experts" / setting
    if experts.is_dir():
        return fmean(relative_norm(work / "base", expert) for expert in sorted(experts.iterdir()))
    print(f"{setting}: no experts in {work}, their norm stays as it is")
    shipped: float = json.loads(MEASURED.read_text())["settings"][setting]["relative_norm"]
    return shipped


def main() -> None:
    parser = ArgumentParser(prog="python -m benchmarks.quality.advice", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="where the experts of the benchmark lie")
    work = parser.parse_args().work
    figures = json.loads(REPORT.read_text())
    norms = {name: mean_relative_norm(work, name) for name in figures["settings"]}
    MEASURED.write_text(json.dumps(measured(figures, norms), indent=1, sort_keys=True) + "\n")
    PAGE.write_text(with_table(PAGE.read_text(), figures))


if __name__ == "__main__":
    main()
