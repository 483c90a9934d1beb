"""Line charts as inline SVG: readable without a script, described for who does not see them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mergenode.adapters.http.page.markup import EMPTY, Markup, joined, tag

WIDTH, HEIGHT = 340, 150
LEFT, RIGHT, TOP, BOTTOM = 50, 8, 10, 20
COLOURS = 6
"""Lines that the stylesheet tells apart."""

Show = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Line:
    """One value per place of the axis, None where it is not known; ``words`` say what each point is."""

    name: str
    values: Sequence[float | None]
    words: Sequence[str]


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over one axis. ``first`` and ``last`` name its ends, ``show`` writes a value.

    ``zero``: the axis contains zero. ``note``: what it means and when to worry.
    """

    title: str
    lines: Sequence[Line]
    first: str
    last: str
    show: Show
    note: str
    zero: bool = True


def drawn(chart: Chart) -> Markup:
    """The chart as a figure; empty where no value is known."""
    known = [value for line in chart.lines for value in line.values if value is not None]
    if not known:
        return EMPTY
    low, high = _span(known, zero=chart.zero)
    picture = tag(
        "svg",
        tag("title", _summary(chart, known)),
        *_axis(chart, low, high),
        *(_line(line, place, low, high) for place, line in enumerate(chart.lines[:COLOURS])),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
    )
    newest = next((value for value in reversed(chart.lines[0].values) if value is not None), None)
    now = tag("b", chart.show(newest)) if len(chart.lines) == 1 and newest is not None else EMPTY
    return tag("figure", tag("figcaption", tag("span", chart.title), now), picture, _legend(chart),
               tag("p", chart.note, class_="note"))  # fmt: skip


def _span(known: Sequence[float], *, zero: bool) -> tuple[float, float]:
    low, high = min(known), max(known)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low < 1e-12 * max(1.0, abs(high)):
        room = 0.5 * max(abs(high), 1e-6)
        return low - room, high + room
    room = 0.06 * (high - low)
    return (low if low == 0 else low - room), (high if high == 0 else high + room)


def _summary(chart: Chart, known: Sequence[float]) -> str:
    names = "" if len(chart.lines) == 1 else f" of {', '.join(line.name for line in chart.lines)}"
    return (
        f"{chart.title}{names}, {chart.first} to {chart.last}: "
        f"lowest {chart.show(min(known))}, highest {chart.show(max(known))}"
    )


def _axis(chart: Chart, low: float, high: float) -> list[Markup]:
    marks = _ticks(low, high)
    drawn_marks = [
        part
        for value in marks
        for part in (
            tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=_at(_y(value, low, high)), y2=_at(_y(value, low, high)),
                 class_="zero" if value == 0 else "grid"),
            tag("text", _mark(chart.show(value)), x=LEFT - 6, y=_at(_y(value, low, high) + 3.5), class_="end"),
        )
    ]  # fmt: skip
    ends = [tag("text", chart.first, x=LEFT, y=HEIGHT - 4)]
    if chart.last != chart.first:
        ends.append(tag("text", chart.last, x=WIDTH - RIGHT, y=HEIGHT - 4, class_="end"))
    return [*drawn_marks, *ends]


def _mark(shown: str) -> str:
    """A value at the axis, without the digits that say nothing there.

    Example:
        >>> _mark("4.00 %"), _mark("-0.0500"), _mark("100 %")
        ('4 %', '-0.05', '100 %')
    """
    digits, unit, rest = shown.partition(" ")
    return (digits.rstrip("0").rstrip(".") if "." in digits and "e" not in digits else digits) + unit + rest


def _ticks(low: float, high: float) -> list[float]:
    """Three to five round values inside the span.

    Example:
        >>> _ticks(0.0, 0.9)
        [0.0, 0.2, 0.4, 0.6, 0.8]
    """
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.85), 10 * power)
    start = math.ceil(low / step - 1e-9)
    values = [round(start + turn) for turn in range(7) if (start + turn) * step <= high + 1e-9 * step]
    return [float(f"{count * step:.12g}") for count in values]


def _line(line: Line, place: int, low: float, high: float) -> Markup:
    spots = [
        (_x(index, len(line.values)), _y(value, low, high), words)
        for index, (value, words) in enumerate(zip(line.values, line.words, strict=True))
        if value is not None
    ]
    if not spots:
        return EMPTY
    last = tag("circle", cx=_at(spots[-1][0]), cy=_at(spots[-1][1]), r=3, class_="dot")
    points = [
        Markup(f'<circle cx="{_at(x)}" cy="{_at(y)}" r="5" class="hit">{tag("title", words)}</circle>')
        for x, y, words in spots
    ]
    return tag("g", tag("path", d=_path(line.values, low, high)), last, *points, class_=f"line c{place}")


def _path(values: Sequence[float | None], low: float, high: float) -> str:
    """Through all that is known; a gap stays a gap, and a value alone between two gaps is a short stroke."""
    steps, pen = [], "M"
    for index, value in enumerate(values):
        if value is None:
            pen = "M"
            continue
        spot = f"{_at(_x(index, len(values)))} {_at(_y(value, low, high))}"
        steps.append(f"{pen}{spot}" if pen == "L" else f"M{spot}h0.1")
        pen = "L"
    return "".join(steps)


def _legend(chart: Chart) -> Markup:
    if len(chart.lines) < 2:
        return EMPTY
    entries = []
    for place, line in enumerate(chart.lines[:COLOURS]):
        newest = next((value for value in reversed(line.values) if value is not None), None)
        shown = "" if newest is None else f" {chart.show(newest)}"
        entries.append(tag("li", tag("i", class_=f"key c{place}"), line.name, tag("b", shown)))
    return tag("ul", joined(entries), class_="legend")


def _x(index: int, count: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (index / (count - 1) if count > 1 else 0.5)


def _y(value: float, low: float, high: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / (high - low))


def _at(place: float) -> str:
    return f"{place:.1f}"
