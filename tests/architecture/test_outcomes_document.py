"""docs/outcomes.md names every reason code, once, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import pytest

from mergenode.errors import RejectReason, TransientReason

DOCUMENT = Path(__file__).parents[2] / "docs/outcomes.md"


def rows(section: str) -> Iterator[list[str]]:
    """The cells of every table row below one heading, without the head of the table."""
    _, _, text = DOCUMENT.read_text(encoding="utf-8").partition(f"\n## {section}\n")
    for line in text.partition("\n## ")[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            yield cells


@pytest.mark.parametrize(("section", "reasons"), [("Rejected", RejectReason), ("Tried again", TransientReason)])
def test_the_table_holds_the_codes_of_the_enumeration_in_its_order(section: str, reasons: type[StrEnum]) -> None:
    assert [cells[0].strip("`") for cells in rows(section)] == [reason.value for reason in reasons]


@pytest.mark.parametrize("section", ["Rejected", "Tried again"])
def test_every_row_says_what_it_means_and_what_to_do(section: str) -> None:
    for cells in rows(section):
        assert all(re.search(r"\w.*[.;]$", cell) for cell in cells[1:]), cells[0]
