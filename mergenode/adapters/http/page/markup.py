"""HTML that cannot be broken by a name: whatever is not markup by its type is escaped on its way in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from mergenode.adapters.observers.safe_text import redact, visible

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class Markup(str):
    """Text that is HTML already. Made here and nowhere else, out of escaped pieces."""

    __slots__ = ()


EMPTY = Markup("")
UNFOLDED = 6
"""Rows of a long table that are there at once."""

Child = str | Markup
Cells = Sequence[Child]


def text(value: str) -> Markup:
    """A value from outside as HTML text: one line, no controls, no credentials.

    Example:
        >>> text("<b>s3://id:pass@store</b>")
        '&lt;b&gt;s3://***@store&lt;/b&gt;'
    """
    return value if isinstance(value, Markup) else Markup(escape(visible(redact(value)), quote=True))


def tag(name: str, /, *children: Child, **attributes: str | int | None) -> Markup:
    """An element. Strings are escaped; attributes that are None are left out, ``class_`` and ``for_`` lose the line.

    Example:
        >>> tag("p", "a < b", class_="note")
        '<p class="note">a &lt; b</p>'
    """
    return Markup(f"<{name}{_attributes(attributes)}>{''.join(map(text, children))}</{name}>")


def void(name: str, /, **attributes: str | int | None) -> Markup:
    """An element without content and without an end tag."""
    return Markup(f"<{name}{_attributes(attributes)}>")


def joined(children: Iterable[Child], between: str = "") -> Markup:
    return Markup(str(text(between)).join(map(text, children)))


def table(columns: Sequence[str], rows: Iterable[Cells], *, caption: str, numbers: Iterable[str] = ()) -> Markup:
    """Rows under headings; on a narrow screen each row becomes a card, its cells named by their headings.

    Args:
        columns: the headings; the first cell of a row is its heading.
        caption: said to who does not see the page.
        numbers: the columns that hold numbers.
    """
    numeric = set(numbers)
    head = joined(tag("th", column, scope="col", class_="n" if column in numeric else None) for column in columns)
    lines = [tag("tr", *_cells(columns, row, numeric)) for row in rows]
    if not lines:
        return tag("p", "none", class_="none")
    body = tag("thead", tag("tr", head)), tag("tbody", *lines)
    return tag("table", tag("caption", caption), *body, class_="cards")


def long_table(columns: Sequence[str], rows: Sequence[Cells], *, caption: str, numbers: Iterable[str] = ()) -> Markup:
    """A table whose rows after the first ``UNFOLDED`` are folded away."""
    first = table(columns, rows[:UNFOLDED], caption=caption, numbers=numbers)
    rest = rows[UNFOLDED:]
    if not rest:
        return first
    earlier = table(columns, rest, caption=f"{caption}, earlier", numbers=numbers)
    return joined([first, more(f"{len(rest)} earlier", earlier)])


def section(anchor: str, heading: str, *children: Child, note: Child = "") -> Markup:
    """A part of the page that the navigation leads to."""
    told = tag("p", note, class_="note") if note else EMPTY
    return tag("section", tag("h2", heading), told, *children, id=anchor)


def more(summary: str, *children: Child) -> Markup:
    """What is folded away until somebody opens it; the browser does that without a script."""
    return tag("details", tag("summary", summary), *children)


def size(count: float) -> str:
    """Bytes for people.

    Example:
        >>> size(1536)
        '1.5 KiB'
    """
    step = 0
    while count >= 1024 and step < len(_UNITS) - 1:
        count, step = count / 1024, step + 1
    return f"{count:.0f} {_UNITS[step]}" if step == 0 else f"{count:.1f} {_UNITS[step]}"


def _cells(columns: Sequence[str], row: Cells, numeric: set[str]) -> Iterable[Markup]:
    for position, (column, cell) in enumerate(zip(columns, row, strict=True)):
        look = "n" if column in numeric else None
        if position == 0:
            yield tag("th", cell, scope="row", class_=look)
        else:
            # On a narrow screen a cell is a grid of its name and its content: what has parts stays together.
            content = tag("div", cell) if isinstance(cell, Markup) else cell
            yield tag("td", content, class_=look, data_label=column)


def _attributes(attributes: dict[str, str | int | None]) -> str:
    return "".join(
        f' {name.rstrip("_").replace("_", "-")}="{text(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
