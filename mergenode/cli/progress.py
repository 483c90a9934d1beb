"""Progress of long commands on a terminal: tensors, bytes, rate, remaining time, and what it waits for."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mergenode.cli.output import visible
from mergenode.ledger.records import Fact
from mergenode.ports.observer import Progress
from mergenode.types import Listing

if TYPE_CHECKING:
    from rich.progress import TaskID

_REFRESH_PER_SECOND = 8


class TerminalProgress:
    """An ``Observer`` that draws one bar per piece of work on standard error; a context manager.

    Args:
        wanted: True draws always, False never, None when standard error is a terminal. Warnings and errors
            are written as lines in every case.
    """

    def __init__(self, wanted: bool | None = None) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.progress import Progress as Bars

        self._console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[tensors]}", markup=False),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[waits]}", markup=False),
            console=self._console,
            disable=not (self._console.is_terminal if wanted is None else wanted),
            refresh_per_second=_REFRESH_PER_SECOND,
        )
        self._tasks: dict[tuple[str, str], TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def progress(self, progress: Progress) -> None:
        """Move the bar of this activity and subject; a new subject replaces the finished one's bar."""
        key = (progress.activity, progress.subject)
        if key not in self._tasks:
            self._retire(progress.activity)
            description = f"{progress.activity} {visible(progress.subject)}"
            self._tasks[key] = self._bars.add_task(description, total=None, tensors="", waits="")
        tensors = f"{progress.tensors_done}/{progress.tensors_total} tensors" if progress.tensors_total else ""
        self._bars.update(
            self._tasks[key],
            completed=progress.bytes_done,
            total=progress.bytes_total or None,
            tensors=tensors,
            waits=f"waits for {visible(progress.waits_for)}" if progress.waits_for else "",
        )

    def _retire(self, activity: str) -> None:
        """Forget the bars of an activity: their number does not grow with that of contributions."""
        for key in [key for key in self._tasks if key[0] == activity]:
            self._bars.remove_task(self._tasks.pop(key))

    def message(self, level: str, text: str, **fields: object) -> None:
        """Warnings and errors are lines above the bar; the rest is for logs."""
        if level in ("warning", "error"):
            details = " ".join(f"{name}={value}" for name, value in fields.items() if name != "hint")
            self._console.print(f"{level}: {visible(text)} {visible(details)}".rstrip(), soft_wrap=True)
            if hint := fields.get("hint"):
                self._console.print(f"hint: {visible(str(hint))}", soft_wrap=True)

    def retrying(self, subject: str, reason: str, message: str, delay_seconds: float, hint: str = "") -> None:
        told = {"hint": hint} if hint else {}
        self.message("warning", f"{subject}: {message}; trying again in {delay_seconds:.0f} s", **told)

    def listing_failed(self, registry: str, message: str) -> None:
        self.message("warning", f"registry {registry}: {message}")

    def fact(self, fact: Fact) -> None:
        """Facts are told by the command itself."""

    def listed(self, registry: str, listing: Listing, pending: int) -> None:
        """One-shot commands watch nothing."""

    def heartbeat(self) -> None:
        """The bar itself shows life."""

    def sizes(self, *, statistics_bytes: int, published_bytes: int, disk_free_bytes: int) -> None:
        """Not shown: ``mergenode status`` tells sizes."""
