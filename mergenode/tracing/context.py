"""What the running thread or task works on, and how that is told to another process: W3C Trace Context, level 1."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from mergenode.tracing.ids import SPAN_DIGITS, TRACE_DIGITS, first_span

TRACEPARENT = "traceparent"
_VERSION_BYTES = 55
_MOST_CHARACTERS = 128
"""Of a header of a later version, whose beginning reads like one of this."""
_HEADER = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Place:
    """A span of a trace. ``links``: traces that this work is part of, too, as when one version holds several folds."""

    trace_id: str
    span_id: str
    sampled: bool = False
    links: tuple[str, ...] = ()

    @property
    def traceparent(self) -> str:
        """As it goes with a call."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


_HERE: ContextVar[Place | None] = ContextVar("here", default=None)
_CALLER: ContextVar[Place | None] = ContextVar("calling_place", default=None)


def at(trace_id: str, links: tuple[str, ...] = ()) -> Place:
    """The place of what happens to a contribution outside any measured work."""
    return Place(trace_id, first_span(trace_id), links=links)


def fresh() -> Place:
    """A trace of its own, for what no id can be derived for: a conversation with a neighbour."""
    return Place(secrets.token_hex(TRACE_DIGITS // 2), secrets.token_hex(SPAN_DIGITS // 2))


def here() -> Place | None:
    """What the running thread or task works on."""
    return _HERE.get()


@contextmanager
def within(place: Place | None) -> Iterator[None]:
    """``here`` answers this inside. Threads that are started inside do not inherit it."""
    token = _HERE.set(place)
    try:
        yield
    finally:
        _HERE.reset(token)


def stay(place: Place | None) -> None:
    """As ``within``, to the end of the running task: for a call whose subject shows while it is answered."""
    _HERE.set(place)


def called_from(place: Place | None) -> None:
    """From now on ``caller`` answers this, in the call that the running task serves."""
    _CALLER.set(place)


def caller() -> Place | None:
    """What the caller says that it works on. A word of his: it is shown and linked, and decides nothing."""
    return _CALLER.get()


def read_traceparent(metadata: Iterable[tuple[str, str | bytes]]) -> Place | None:
    """What the metadata of a call say; None when there is nothing, more than one, or anything but a traceparent."""
    found = [value for key, value in metadata if key == TRACEPARENT]
    if len(found) != 1 or not isinstance(found[0], str) or not _VERSION_BYTES <= len(found[0]) <= _MOST_CHARACTERS:
        return None
    match = _HEADER.fullmatch(found[0])
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more) or not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return Place(trace_id, span_id, sampled=bool(int(flags, 16) & 1))


def call_metadata() -> Sequence[tuple[str, str]]:
    """What goes with a call: where it is made from, or a trace of its own."""
    return ((TRACEPARENT, (here() or fresh()).traceparent),)
