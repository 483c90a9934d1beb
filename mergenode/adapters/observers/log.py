"""What happens, as structured log lines: one per fact, progress now and then, repeated warnings once.

However much goes wrong, the log stays readable and small: at most so many lines of a kind a minute, and a count of the
others. The ledger has every fact.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TextIO

from mergenode.adapters.observers.budget import LineBudget, shape
from mergenode.adapters.observers.fact_lines import describe
from mergenode.adapters.observers.log_lines import ConsoleLines, JsonLines
from mergenode.adapters.observers.repeats import RepeatLimit
from mergenode.errors import UsageError
from mergenode.ledger.records import Fact
from mergenode.ledger.traces import trace_of
from mergenode.ports.clock import Clock
from mergenode.ports.observer import Progress
from mergenode.tracing.context import Place, at, here
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

MOST_WARNINGS = 20
"""Lines a minute of one kind of warning or error."""
MOST_NEWS = 300
"""Lines a minute of one kind of what is no warning: a busy node stays below it."""
_LOUD = ("warning", "error")


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


def adjust_logging(format: str, level: str) -> None:
    """Another format and level for what ``configure_logging`` set up; the stream stays. Both must be known ones."""
    logger = logging.getLogger(LOGGER_NAME)
    logger.setLevel(LEVELS[level])
    for handler in logger.handlers:
        handler.setFormatter(FORMATS[format]())


class LogObserver:
    """Writes what the daemon tells to the logger ``mergenode``.

    Identical warnings get through once a minute, and different ones of one kind ``MOST_WARNINGS`` times: what was held
    back is counted and told. Debug lines are not counted: whoever asks for them wants them all. Names in the lines come
    from others; the formatters make them safe.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._logger = logging.getLogger(LOGGER_NAME)
        self._repeats = RepeatLimit(clock.monotonic)
        self._warnings = LineBudget(clock.monotonic, MOST_WARNINGS)
        self._spoken = LineBudget(clock.monotonic, MOST_WARNINGS)  # words of others must not use up the kinds of faults
        self._news = LineBudget(clock.monotonic, MOST_NEWS)
        self._told_at: dict[tuple[str, str], float] = {}

    def fact(self, fact: Fact) -> None:
        level, text, fields = describe(fact)
        reason = getattr(fact, "reason", "")
        self._budgeted(level, fact.kind, text, fields, kind=f"{fact.kind} {reason}".strip(), place=_place_of(fact))

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
        self._budgeted("info", "progress", f"{progress.activity} of {progress.subject!r}: {share:.0%}", fields)

    def listed(self, registry: str, listing: Listing, pending: int) -> None:
        fields = {"registry": registry, "candidates": len(listing.candidates), "pending": pending,
                  "unsettled": len(listing.unsettled), "refused": len(listing.refused)}  # fmt: skip
        self._write("debug", "listed", f"registry {registry!r} answered", fields)

    def listing_failed(self, registry: str, message: str) -> None:
        text = f"registry {registry!r}: {message}"
        self._limited("listing_failed", text, {"registry": registry}, kind=f"listing_failed {registry}")

    def retrying(self, subject: str, reason: str, message: str, delay_seconds: float, hint: str = "") -> None:
        fields: dict[str, object] = {"subject": subject, "reason": reason, "delay_seconds": delay_seconds}
        if hint:
            fields["hint"] = hint
        self._limited("retrying", f"{subject!r} is tried again: {message}", fields, kind=f"retrying {reason}")

    def heartbeat(self) -> None:
        """Says nothing itself; tells what was held back of faults that have stopped repeating."""
        for text, suppressed in self._repeats.expired():
            self._budgeted("warning", "repeated", text, {"suppressed": suppressed}, kind=f"repeated {shape(text)}")
        for level, budget in (("warning", self._warnings), ("warning", self._spoken), ("info", self._news)):
            for kind, held in budget.owed():
                text = f"{held} more lines of the kind {kind!r} were left out (`mergenode history` has every fact)"
                self._write(level, "left_out", text, {"kind": kind, "left_out": held})

    def sizes(self, *, statistics_bytes: int, published_bytes: int, disk_free_bytes: int) -> None:
        fields = {"statistics_bytes": statistics_bytes, "published_bytes": published_bytes,
                  "disk_free_bytes": disk_free_bytes}  # fmt: skip
        self._write("debug", "sizes", "disk use", fields)

    def message(self, level: str, text: str, **fields: object) -> None:
        if level in _LOUD:
            self._limited("message", text, fields, level)
        else:
            self._budgeted(level, "message", text, fields, kind=f"message {shape(text)}")

    def _limited(
        self, event: str, text: str, fields: Mapping[str, object], level: str = "warning", *, kind: str = ""
    ) -> None:
        suppressed = self._repeats.admit(text)
        if suppressed is None:
            return
        held = {"suppressed": suppressed} if suppressed else {}
        self._budgeted(level, event, text, {**fields, **held}, kind=kind or f"{event} {shape(text)}")

    def _budgeted(
        self, level: str, event: str, text: str, fields: Mapping[str, object], *, kind: str = "",
        place: Place | None = None,
    ) -> None:  # fmt: skip
        """Write it, unless there were enough of its kind; the next that gets through says how many did not."""
        if level == "debug":
            self._write(level, event, text, fields, place)
            return
        loud = self._spoken if event in ("message", "repeated") else self._warnings
        held = (self._news if level == "info" else loud).admit(kind or event)
        if held is not None:
            self._write(level, event, text, {**fields, **({"left_out": held} if held else {})}, place)

    def _write(
        self, level: str, event: str, text: str, fields: Mapping[str, object], place: Place | None = None
    ) -> None:
        # An unknown level is the caller's slip; the line matters more than its level.
        severity = LEVELS.get(level, logging.WARNING)
        self._logger.log(severity, "%s", text, extra={"event": event, "fields": dict(fields), "place": place})


def _place_of(fact: Fact) -> Place | None:
    """Where a fact belongs: in the work under way if that is about it, else at its trace; None for the node's own."""
    trace_id, working = trace_of(fact), here()
    if not trace_id or (working is not None and working.trace_id == trace_id):
        return working
    return at(trace_id)
