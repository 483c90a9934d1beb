"""Measured work: what it was, when, and of which contribution. Whoever wants the spans gives a function."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from mergenode.tracing.context import Place, here, within
from mergenode.tracing.ids import SPAN_DIGITS, first_span, is_sampled

Value = str | bool | int | float

MOST_LINKS = 32
_MOST_CHARACTERS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Work that is over. Times are nanoseconds since 1970. ``fault``: why it failed, empty when it did not."""

    name: str
    place: Place
    parent: Place | None
    begun: int
    ended: int
    attributes: dict[str, Value] = field(default_factory=dict)
    links: tuple[Place, ...] = ()
    fault: str = ""


def _ignored(_span: Span) -> None:
    """Without an export spans only give log lines their place."""


@dataclass(frozen=True, slots=True)
class Tracer:
    """Opens spans. ``finished`` gets those of sampled traces; it must be cheap and never raise.

    ``share``: of traces that are sampled, in [0, 1]. ``now``: nanoseconds since 1970.
    """

    finished: Callable[[Span], None] = _ignored
    share: float = 0.0
    now: Callable[[], int] = time.time_ns

    @contextmanager
    def span(
        self, name: str, trace_id: str, *, parent: Place | None = None, links: Sequence[Place] = (), **attributes: Value
    ) -> Iterator[dict[str, Value]]:
        """Measure the block; log lines in it say so. Attributes that are put into the yielded dict go along.

        ``parent``: of another process; without one, the span around this in the same trace. What the block raises
        passes, and is the span's fault.
        """
        linked = tuple(link for link in links[:MOST_LINKS] if link.trace_id != trace_id)
        place = self._place(trace_id, tuple(link.trace_id for link in linked))
        parent = parent or _around(trace_id)
        begun, fault = self.now(), ""
        try:
            with within(place):
                yield attributes
        except BaseException as error:
            fault = f"{type(error).__name__}: {error}"[:_MOST_CHARACTERS]
            raise
        finally:
            self._end(name, place, parent, (begun, self.now()), attributes, linked, fault)

    def record(
        self, name: str, trace_id: str, begun: int, ended: int, *, parent: Place | None = None,
        links: Sequence[Place] = (), **attributes: Value,
    ) -> Place:  # fmt: skip
        """A span of work that is over already; where it was."""
        place = self._place(trace_id, ())
        self._end(
            name,
            place,
            parent or _around(trace_id),
            (begun, max(begun, ended)),
            attributes,
            tuple(links[:MOST_LINKS]),
            "",
        )
        return place

    def _place(self, trace_id: str, links: tuple[str, ...]) -> Place:
        return Place(trace_id, secrets.token_hex(SPAN_DIGITS // 2), is_sampled(trace_id, self.share), links)

    def _end(
        self, name: str, place: Place, parent: Place | None, times: tuple[int, int], attributes: dict[str, Value],
        links: tuple[Place, ...], fault: str,
    ) -> None:  # fmt: skip
        if place.sampled:
            begun, ended = times
            span = Span(
                name=name, place=place, parent=parent, begun=begun, ended=max(begun, ended), attributes=attributes,
                links=links, fault=fault,
            )  # fmt: skip
            self.finished(span)


def _around(trace_id: str) -> Place | None:
    """The span that is open here, where it is of this trace. No span is made for what happens outside any."""
    around = here()
    if around is None or around.trace_id != trace_id or around.span_id == first_span(trace_id):
        return None
    return around


SILENT = Tracer()
"""Measures nothing that anybody hears of; log lines have their places nevertheless."""
