"""What the package and the documentation say about quality is what the benchmark found."""

from __future__ import annotations

import json

from benchmarks.quality.advice import MEASURED, PAGE, REPORT, measured, table, with_table
from mergenode.methods import build_method

FIGURES = json.loads(REPORT.read_text())


def test_the_page_holds_the_table_of_the_report() -> None:
    page = PAGE.read_text()
    assert with_table(page, FIGURES) == page
    assert table(FIGURES).count("\n") > 10


def test_the_package_ships_the_figures_of_the_report() -> None:
    shipped = json.loads(MEASURED.read_text())
    norms = {name: told["relative_norm"] for name, told in shipped["settings"].items()}
    assert measured(FIGURES, norms) == shipped
    assert all(0 < norm < 1 for norm in norms.values())


def test_every_measured_method_can_be_built() -> None:
    for told in json.loads(MEASURED.read_text())["settings"].values():
        for row in told["rows"]:
            assert build_method(row["method"], row["options"]).name == row["method"]


def test_the_literal_form_of_opcm_agrees_with_ours_within_one_standard_error() -> None:
    for told in FIGURES["settings"].values():
        rows = {row["label"]: row["sizes"] for row in told["rows"]}
        for size, found in rows["OPCM block, literal"].items():
            ours = rows["OPCM block"][size]
            assert abs(ours["accuracy"] - found["accuracy"]) <= max(ours["error"], found["error"])
