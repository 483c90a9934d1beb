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
from typing import Any

from safetensors import safe_open

ROOT = Path(__file__).parents[2]
REPORT = Path(__file__).with_name("report") / "figures.json"
MEASURED = ROOT / "mergenode" / "bootstrap" / "measured.json"
PAGE = ROOT / "docs" / "which-method.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

COLUMNS = (("light", "8"), ("light", "9"), ("strong", "9"), ("many", "18"), ("many", "36"))
"""Settings and numbers of contributions of the documentation's table."""


def measured(figures: Mapping[str, Any], norms: Mapping[str, float]) -> dict[str, Any]:
    """What the package ships: shares kept by setting, number of contributions, method and options."""
    settings = {}
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
            if row["method"] != "opcm_literal" and row["sizes"]
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


def with_table(page: str, figures: Mapping[str, Any]) -> str:
    """The page with the table between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(figures)}\n{END}{after}"


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


def main() -> None:
    parser = ArgumentParser(prog="python -m benchmarks.quality.advice", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="where the experts of the benchmark lie")
    work = parser.parse_args().work
    figures = json.loads(REPORT.read_text())
    norms = {
        name: fmean(relative_norm(work / "base", expert) for expert in sorted((work / "experts" / name).iterdir()))
        for name in figures["settings"]
    }
    MEASURED.write_text(json.dumps(measured(figures, norms), indent=1, sort_keys=True) + "\n")
    PAGE.write_text(with_table(PAGE.read_text(), figures))


if __name__ == "__main__":
    main()
