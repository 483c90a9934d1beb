"""How commands print: tables for people, JSON for programs, numbers in the same form everywhere."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Command = TypeVar("Command", bound=Callable[..., Any])

_UNWRAPPED = 5000


def json_option(command: Command) -> Command:
    """``--json``: one JSON document on standard output, nothing else there."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")(command)


def print_json(document: Mapping[str, Any]) -> None:
    """One ASCII document on standard output. Raises ValueError for NaN: it is no JSON."""
    click.echo(json.dumps(document, indent=2, allow_nan=False))


def console() -> Console:
    """Standard output for tables; into a file or pipe one fact stays one line, without trailing blanks."""
    from rich.console import Console

    out = Console(highlight=False, markup=False, emoji=False)
    if out.is_terminal:
        return out
    return Console(file=cast(IO[str], _Trimmed()), highlight=False, markup=False, emoji=False, width=_UNWRAPPED)


class _Trimmed:
    """Standard output without the blanks that fill table cells up to the end of a line."""

    def write(self, text: str) -> int:
        return sys.stdout.write(re.sub(r" +$", "", text, flags=re.MULTILINE))

    def flush(self) -> None:
        sys.stdout.flush()


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table without frame; ``right`` names the columns of numbers."""
    from rich.table import Table

    result = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        result.add_column(
            column, justify="right" if column in right else "left", no_wrap=column in right, overflow="fold"
        )
    return result


def field_table(pairs: Iterable[tuple[str, object]]) -> Table:
    """Names and values without a heading; values are made visible."""
    rows = table("", "")
    rows.show_header = False
    for name, value in pairs:
        rows.add_row(name, visible(value))
    return rows


def visible(text: object) -> str:
    """Text from outside (names, messages) with everything a terminal could act on written as an escape."""
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode("ascii") for mark in str(text))


def number_text(value: float | None) -> str:
    """Four significant digits; a dash for what is not defined."""
    return "-" if value is None else f"{value:.4g}"


def percent_text(value: float | None) -> str:
    """A share in percent; a dash for what is not defined."""
    return "-" if value is None else f"{100 * value:.1f}%"
