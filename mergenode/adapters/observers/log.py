"""What happens, as structured log lines: one per fact, progress now and then, repeated warnings once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TextIO

from mergenode.adapters.observers.fact_lines import describe
from mergenode.adapters.observers.log_lines import ConsoleLines, JsonLines
from mergenode.adapters.observers.repeats import RepeatLimit
from mergenode.errors import UsageError
from mergenode.ledger.records import Fact
from mergenode.ports.clock import Clock
from mergenode.ports.observer import Progress
from mergenode.types import Listing

LOGGER_NAME = "mergenode"
LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
FORMATS: Mapping[str, type[logging.Formatter]] = {"console": ConsoleLines, "json": JsonLines}
PROGRESS_SECONDS = 10.0
MAX_PROGRESS = 64
"""Pieces of work whose progress is told at once; of others beside them less often."""


def configure_logging(format: str, level: str, stream: TextIO) -> None:
    """Send everything below the logger ``mergenode`` to this stream, and nowhere else.

    Args:
        format: ``console`` (readable lines) or ``json`` (one object per line).
        level: ``debug``, ``info``, ``warning`` or ``error``; what is less severe is dropped.
        stream: owned by the caller, who keeps it open.

    Idempotence: a second call replaces what the first one set up. Raises UsageError for an unknown format or
    level.
    """
    if format not in FORMATS:
        raise UsageError(f"unknown log format {format!r}", hint=f"use one of: {', '.join(FORMATS)}")
    if level not in LEVELS:
        raise UsageError(f"unknown log level {level!r}", hint=f"use one of: {', '.join(LEVELS)}")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(FORMATS[format]())
    logger = logging.getLogger(LOGGER_NAME)
    for old in list(logger.handlers):
        logger.removeHandler(old)
    logger.addHandler(handler)
    logger.setLevel(LEVELS[level])
    logger.propagate = False


class LogObserver:
    """Writes what the daemon tells to the logger ``mergenode``.

    Identical warnings get through once a minute; what was held back is counted and told. Names in the lines
    come from others; the formatters make them safe.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._logger = logging.getLogger(LOGGER_NAME)
        self._repeats = RepeatLimit(clock.monotonic)
        self._told_at: dict[tuple[str, str], float] = {}

    def fact(self, fact: Fact) -> None:
        level, text, fields = describe(fact)
        self._write(level, fact.kind, text, fields)

    def progress(self, progress: Progress) -> None:
        if progress.over:
            self._told_at.pop(progress.work, None)
            return
        now, told_at = self._clock.monotonic(), self._told_at.get(progress.work)
        if told_at is None and len(self._told_at) >= MAX_PROGRESS:
            self._told_at.pop(next(iter(self._told_at), progress.work), None)
        if told_at is not None and now - told_at < PROGRESS_SECONDS:
            return
        self._told_at[progress.work] = now
        if told_at is None:
            return  # work that ends soon is told by its fact alone
        share = progress.bytes_done / progress.bytes_total if progress.bytes_total else 0.0
        fields: dict[str, object] = {
            "tensors_done": progress.tensors_done, "tensors_total": progress.tensors_total,
            "bytes_done": progress.bytes_done, "bytes_total": progress.bytes_total,
        }  # fmt: skip
        if progress.waits_for:
            fields["waits_for"] = progress.waits_for
        self._write("info", "progress", f"{progress.activity} of {progress.subject!r}: {share:.0%}", fields)

    def listed(self, registry: str, listing: Listing, pending: int) -> None:
        fields = {"registry": registry, "candidates": len(listing.candidates), "pending": pending,
                  "unsettled": len(listing.unsettled), "refused": len(listing.refused)}  # fmt: skip
        self._write("debug", "listed", f"registry {registry!r} answered", fields)

    def listing_failed(self, registry: str, message: str) -> None:
        self._limited("listing_failed", f"registry {registry!r}: {message}", {"registry": registry})

    def retrying(self, subject: str, reason: str, message: str, delay_seconds: float, hint: str = "") -> None:
        fields: dict[str, object] = {"subject": subject, "reason": reason, "delay_seconds": delay_seconds}
        if hint:
            fields["hint"] = hint
        self._limited("retrying", f"{subject!r} is tried again: {message}", fields)

    def heartbeat(self) -> None:
        """Says nothing itself; tells what was held back of faults that have stopped repeating."""
        for text, suppressed in self._repeats.expired():
            self._write("warning", "repeated", text, {"suppressed": suppressed})

    def sizes(self, *, statistics_bytes: int, published_bytes: int, disk_free_bytes: int) -> None:
        fields = {"statistics_bytes": statistics_bytes, "published_bytes": published_bytes,
                  "disk_free_bytes": disk_free_bytes}  # fmt: skip
        self._write("debug", "sizes", "disk use", fields)

    def message(self, level: str, text: str, **fields: object) -> None:
        if level in ("warning", "error"):
            self._limited("message", text, fields, level)
        else:
            self._write(level, "message", text, fields)

    def _limited(self, event: str, text: str, fields: Mapping[str, object], level: str = "warning") -> None:
        suppressed = self._repeats.admit(text)
        if suppressed is None:
            return
        held = {"suppressed": suppressed} if suppressed else {}
        self._write(level, event, text, {**fields, **held})

    def _write(self, level: str, event: str, text: str, fields: Mapping[str, object]) -> None:
        # An unknown level is the caller's slip; the line matters more than its level.
        severity = LEVELS.get(level, logging.WARNING)
        self._logger.log(severity, "%s", text, extra={"event": event, "fields": dict(fields)})
