"""Progress of work on a plug-in's batches, on a terminal."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mergenode.cli.output import visible

if TYPE_CHECKING:
    from rich.progress import TaskID


class BatchProgress:
    """One bar per kind of work on standard error; a context manager.

    Args:
        wanted: True draws always, False never, None when standard error is a terminal.
    """

    def __init__(self, wanted: bool | None, subject: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
        self._subject = visible(subject)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("batches", markup=False),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=not (console.is_terminal if wanted is None else wanted),
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def told(self, kind: str, done: int, total: int) -> None:
        """``done`` of ``total`` batches (0: nobody knows how many) of this kind of work."""
        if kind not in self._tasks:
            self._tasks[kind] = self._bars.add_task(f"{kind} {self._subject}", total=None)
        self._bars.update(self._tasks[kind], completed=done, total=total or None)
