"""docs/gates.md names every gate, its codes, its default action and its default limits."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from mergenode.gates import GATES
from mergenode.gates.reasons import GateReason
from mergenode.settings.gates import GatesSettings

TEXT = (Path(__file__).parents[2] / "docs/gates.md").read_text(encoding="utf-8")
ROWS = {
    cells[0].strip(" `"): [cell.strip() for cell in cells[1:]]
    for line in TEXT.splitlines()
    if line.startswith("| `") and len(cells := line.strip("|").split("|")) == 5
}


def test_the_rows_are_those_of_the_table_in_its_order() -> None:
    assert list(ROWS) == list(GATES)


@pytest.mark.parametrize("name", GATES)
def test_a_row_tells_codes_and_defaults(name: str) -> None:
    fails, codes, action, _ = ROWS[name]
    source = Path(inspect.getfile(GATES[name])).read_text(encoding="utf-8")
    given = [reason.value for reason in GateReason if f"GateReason.{reason.name}" in source]
    told = re.findall(r"`(\w+)`", codes)
    assert set(told) == {code for code in given if name == "finite" or code != "not_finite"}
    assert action == getattr(GatesSettings(), name).action
    for option, default in re.findall(r"`(\w+)` \((-?[\d.]+)[;)]", fails):
        assert inspect.signature(GATES[name]).parameters[option].default == float(default), option
