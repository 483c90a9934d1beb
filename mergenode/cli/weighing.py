"""How much of a contribution entered and why, as `mergenode show` tells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mergenode.cli.output import number_text, percent_text, table, visible

if TYPE_CHECKING:
    from rich.table import Table


def weighing_fields(weighing: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows for ``weighing`` of a ``folded`` fact; none where nothing was weighed."""
    if not weighing:
        return []
    if "failed" in weighing:
        return [("weighed", f"no: {visible(weighing['failed'])}")]
    trials = ", ".join(f"{weight:.4g}: {score:.4g}" for weight, score in weighing["trials"])
    rows = [("weighed", f"asked for {weighing['given']:g}"), ("objective by weight", trials)]
    for task, found in weighing["tasks"].items():
        change = f"{number_text(found['before'])} to {number_text(found['after'])}"
        rows.append((f"score {visible(task)}", f"{change}, fitted within {number_text(found['residual'])}"))
    return rows


def pareto_table(weighing: Mapping[str, Any]) -> Table | None:
    """Weights that no other weight beats, with the scores that the fits predict; None where there are none."""
    front = weighing.get("pareto")
    if not front:
        return None
    columns = ("weight", *(visible(task) for task in front["tasks"]))
    rows = table(*columns, right=columns)
    for point in front["points"]:
        rows.add_row(*(number_text(value) for value in point))
    return rows


def protection_fields(protection: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows for ``protection`` of a ``folded`` fact; none where nothing is protected."""
    if not protection:
        return []
    rows = [("vetoed", f"{percent_text(protection['share'])} of its squared norm")]
    for found in protection["by"]:
        rise = f"predicted rise {number_text(found['offered'])}, {number_text(found['left'])} of it left"
        rows.append((f"protected {visible(found['name'])}", rise))
    worst = sorted(protection["groups"].items(), key=lambda item: (-item[1], item[0]))[:_GROUPS_SHOWN]
    if worst:
        rows.append(("vetoed most in", ", ".join(f"{visible(name)} {percent_text(share)}" for name, share in worst)))
    return rows


_GROUPS_SHOWN = 5
