"""The map of layers: what each of the newest contributions did in each layer group, warm where to look."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from mergenode.adapters.http.page.markup import EMPTY, Markup, joined, section, tag, text
from mergenode.adapters.http.page.recent import WHOLE_MODEL, figure
from mergenode.adapters.http.page.wording import UNKNOWN, percent
from mergenode.ledger.records import Folded

COLUMNS, ROWS = 40, 40
"""Contributions and layer groups at most: more cannot be told apart, and the page stays small."""
STEPS = 9
"""Colours from warm (0) to cool; the one in the middle is neutral."""

Values = Sequence[Sequence[float | None]]
"""Per layer group one value per contribution."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How values become colours and words. ``legend`` has words for the warm, middle and cool end.

    ``rising``: whether low values are the warm ones.
    """

    name: str
    label: str
    unit: str
    pick: Callable[[Mapping[str, Any]], float | None]
    step: Callable[[float], int]
    short: Callable[[float], str]
    long: Callable[[float], str]
    legend: tuple[str, str, str]
    rising: bool = True


def heat_section(folds: Sequence[Folded], asked: str | None) -> Markup:
    """``asked``: ``kept``, ``norm`` or ``cosine``; None or what has no figures: what says most."""
    shown = [fold for fold in reversed(folds) if len(fold.groups) > 1][:COLUMNS]
    if not shown:
        return section("layers", "Layers", tag("p", "No contribution has figures per layer group yet.", class_="none"))
    reports = [{str(group.get("group")): group for group in fold.groups} for fold in shown]
    names = [name for name in reports[0] if name != WHOLE_MODEL]
    scales = _scales(reports, names[:: math.ceil(len(names) / ROWS)])
    scale = scales.get(asked or "") or next(iter(scales.values()))
    rows = _rows(reports, names, scale)
    told = f"The {len(rows)} of {len(names)} layer groups that are warmest, in the order of the model. " if len(
        rows) < len(names) else ""  # fmt: skip
    note = joined([
        f"{scale.label} of each of the newest {len(shown)} contributions (columns, newest first) in each layer "
        f"group (rows), {scale.unit}. {told}Warm cells are where to look first. All figures: ",
        tag("a", "history", href="/api/v1/history"), ", per tensor: ", tag("a", "tensors", href="/api/v1/tensors"), ".",
    ])  # fmt: skip
    parts = _switch(scales, scale), _legend(scale), _grid(shown, rows, scale)
    return section("layers", "Layers by contribution", *parts, note=note)


def _scales(reports: Sequence[Mapping[str, Mapping[str, Any]]], names: Sequence[str]) -> dict[str, Scale]:
    """Those that have figures, the most telling one first: what a merge keeps whole says nothing.

    ``names``: layer groups from all over the model; a part of them says what is usual.
    """
    norms = [value for report in reports for name in names if (value := _over_base(report.get(name, {})))]
    all_scales = (_kept_scale(), _cosine_scale(), _norm_scale(median(norms) if norms else math.nan))
    found: dict[str, Scale] = {}
    dull: dict[str, Scale] = {}
    for scale in all_scales:
        values = {scale.pick(report[name]) for report in reports for name in names if name in report} - {None}
        if values:
            same = scale.name == "kept" and all(value is not None and value > 0.999 for value in values)
            (dull if same else found)[scale.name] = scale
    return found | dull


def _kept_scale() -> Scale:
    return Scale(
        "kept", "Share kept", "in percent", lambda report: figure(report, "share_kept"),
        lambda value: min(STEPS - 1, max(0, int(value * STEPS))), lambda value: f"{100 * value:.0f}",
        lambda value: f"kept {percent(value)}", ("little kept", "half", "all kept"),
    )  # fmt: skip


def _cosine_scale() -> Scale:
    """Cosines are small where contributions are strangers: a tenth against the merge is much."""

    def step(value: float) -> int:
        bounds = (0.02, 0.1, 0.2, 0.4)
        strength = sum(abs(value) >= bound for bound in bounds)
        return STEPS // 2 + (strength if value > 0 else -strength)

    return Scale(
        "cosine", "Cosine with the merge before it", "in hundredths", lambda report: figure(report, "cosine"), step,
        lambda value: f"{100 * value:.0f}", lambda value: f"cosine {value:.3f}",
        ("against the merge, below -0.4", "unrelated", "along with it, above 0.4"),
    )  # fmt: skip


def _norm_scale(typical: float) -> Scale:
    def step(value: float) -> int:
        if not value or not math.isfinite(typical):
            return STEPS - 1 if math.isfinite(typical) else STEPS // 2
        return min(STEPS - 1, max(0, STEPS // 2 - round(math.log2(value / typical))))

    return Scale(
        "norm", "Size over that of the base", "in percent", _over_base, step, _short_percent,
        lambda value: f"norm {percent(value)} of the base's",
        ("16 times the usual or more", f"usual, {percent(typical)}", "a sixteenth or less"), rising=False,
    )  # fmt: skip


def _rows(
    reports: Sequence[Mapping[str, Mapping[str, Any]]], names: Sequence[str], scale: Scale
) -> list[tuple[str, list[float | None]]]:
    """All groups, or the warmest of them, in the order of the model."""
    rows = [(name, [scale.pick(report[name]) if name in report else None for report in reports]) for name in names]
    if len(rows) <= ROWS:
        return rows
    order = sorted(range(len(rows)), key=lambda place: _warmth(rows[place][1], scale))
    return [rows[place] for place in sorted(order[:ROWS])]


def _warmth(values: Sequence[float | None], scale: Scale) -> tuple[int, float]:
    """Lower is warmer: the warmest cell, then all of them."""
    known = [value for value in values if value is not None]
    if not known:
        return (STEPS, 0.0)
    mean = math.fsum(known) / len(known)
    return (min(map(scale.step, known)), mean if scale.rising else -mean)


def _switch(scales: Mapping[str, Scale], current: Scale) -> Markup:
    if len(scales) < 2:
        return EMPTY
    links = [
        tag("a", scale.label, href=f"/?heat={name}#layers", aria_current="true" if scale is current else None)
        for name, scale in scales.items()
    ]
    return tag("nav", *links, class_="switch", aria_label="What the map shows")


def _legend(scale: Scale) -> Markup:
    swatches = joined(tag("i", class_=f"h{step}") for step in range(STEPS))
    warm, middle, cool = scale.legend
    words = tag("span", warm), tag("span", middle), tag("span", cool)
    return tag("div", tag("span", swatches, class_="swatches", aria_hidden="true"), tag("div", *words), class_="scale")


def _grid(folds: Sequence[Folded], rows: Sequence[tuple[str, list[float | None]]], scale: Scale) -> Markup:
    """Cells are joined by hand: there are hundreds of them, and each name is escaped once."""
    names = [str(text(fold.name)) for fold in folds]
    head = joined(tag("th", tag("span", fold.name), scope="col", title=f"no. {fold.count}: {fold.name}, {fold.time}")
                  for fold in folds)  # fmt: skip
    body = [Markup(f'<tr><th scope="row">{text(group)}</th>{_cells(values, str(text(group)), names, scale)}</tr>')
            for group, values in rows]  # fmt: skip
    corner = tag("td", class_="corner")
    grid = tag("table", tag("caption", f"{scale.label} by layer group and contribution, {scale.unit}"),
               tag("thead", tag("tr", corner, head)), tag("tbody", *body), class_="heat")  # fmt: skip
    return tag("div", grid, class_="wide", role="region", tabindex=0, aria_label="Map of layers, scrolls sideways")


def _cells(values: Sequence[float | None], group: str, names: Sequence[str], scale: Scale) -> str:
    parts = []
    for name, value in zip(names, values, strict=True):
        if value is None or not math.isfinite(value):
            parts.append(f'<td title="{name}, {group}: not known">{UNKNOWN}</td>')
        else:
            title = f"{name}, {group}: {scale.long(value)}"
            parts.append(f'<td class="h{scale.step(value)}" title="{title}">{scale.short(value)}</td>')
    return "".join(parts)


def _over_base(report: Mapping[str, Any]) -> float | None:
    delta, base = figure(report, "delta_norm"), figure(report, "base_norm")
    return delta / base if delta is not None and base else None


def _short_percent(value: float) -> str:
    shown = 100 * value
    if shown >= 9.95:
        return f"{shown:.0f}" if shown < 999.5 else "1k+"
    return f"{shown:.1f}" if shown >= 0.95 else f"{shown:.2f}".lstrip("0") if shown else "0"
