"""The drift table: what a fold did to every layer group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mergenode.cli.output import number_text, percent_text, table, visible

if TYPE_CHECKING:
    from rich.table import Table

WHOLE_MODEL = "*"


def drift_table(groups: Iterable[Mapping[str, Any]]) -> Table:
    """Rows in the order given, the whole model first.

    Args:
        groups: ``GroupReport`` fields by name, as a ``folded`` fact and a manifest hold them. Norms are
            Frobenius norms in weight units; cosine in [-1, 1]; shares in [0, 1] are shown in percent;
            ``against`` is ``sign_conflict``; ``free`` is one minus ``capacity_taken``, what later contributions
            may still use of the spectrum.
    """
    columns = ("group", "parameters", "norm", "kept", "cosine", "against", "effective rank", "free", "merge / base")
    rows = table(*columns, right=columns[1:])
    for group in sorted(groups, key=lambda group: group["group"] != WHOLE_MODEL):
        taken, merge, base = (group.get(name) for name in ("capacity_taken", "merge_norm", "base_norm"))
        rows.add_row(
            "whole model" if group["group"] == WHOLE_MODEL else visible(group["group"]),
            f"{group['parameters']:,}",
            number_text(group.get("delta_norm")),
            percent_text(group.get("share_kept")),
            number_text(group.get("cosine")),
            percent_text(group.get("sign_conflict")),
            number_text(group.get("effective_rank")),
            percent_text(None if taken is None else 1 - taken),
            percent_text(merge / base if merge is not None and base else None),
        )
    return rows
