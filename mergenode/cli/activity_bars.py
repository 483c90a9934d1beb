"""The long work of a node as bars that are drawn over and over, on a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mergenode.cli.output import visible
from mergenode.cli.watching import headline
from mergenode.ports.activity import share_of
from mergenode.ports.activity_text import amount_text, rate_text, steps_text, title
from mergenode.sizes import left_text

if TYPE_CHECKING:
    from mergenode.bootstrap.activities import Seen

_BAR = 24


class BarView:
    """A line about the node and a bar for every piece of work; the last picture stays on the screen."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, markup=False, emoji=False)
        self._live = Live(console=self._console, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, seen: Seen) -> None:
        self._live.update(picture(seen), refresh=True)

    def say(self, text: str) -> None:
        self._console.print(visible(text))


def picture(seen: Seen) -> Group:
    """One look at a node."""
    rows = Table.grid(padding=(0, 2))
    for activity in seen.activities:
        share = share_of(activity)
        bar = ProgressBar(total=1.0, completed=share or 0.0, width=_BAR, pulse=share is None)
        cells = (amount_text(activity), steps_text(activity), rate_text(activity))
        left = left_text(activity["remaining_seconds"])
        known = "" if share is None else f"{100 * share:3.0f} %"
        rows.add_row(Text(visible(title(activity))), bar, known, *map(Text, map(visible, cells)), left)
    line = headline(seen) + ("" if seen.activities or not seen.running else ", nothing under way")
    return Group(Text(visible(line)), rows)
