"""What gates found, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mergenode.cli.output import number_text, table, visible

if TYPE_CHECKING:
    from rich.console import Console


def print_findings(findings: Sequence[Mapping[str, Any]], out: Console) -> None:
    """One row per finding, with the numbers that were compared; nothing where there are none."""
    if not findings:
        return
    rows = table("gate", "then", "reason", "what it found", "numbers")
    for finding in findings:
        numbers = finding.get("numbers") or {}
        told = ", ".join(f"{visible(name)} {number_text(value)}" for name, value in sorted(numbers.items()))
        texts = (visible(finding.get(key, "")) for key in ("gate", "action", "reason", "message"))
        rows.add_row(*texts, told)
    out.print("\nWhat gates found", style="bold")
    out.print(rows)
