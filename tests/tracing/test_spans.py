"""Spans as whoever exports them gets them."""

from __future__ import annotations

from itertools import count

import pytest

from mergenode.tracing.context import Place, at, here, within
from mergenode.tracing.spans import MOST_LINKS, SILENT, Span, Tracer

TRACE, OTHER = "a" * 31 + "1", "b" * 31 + "2"


class Told:
    def __init__(self, share: float = 1.0) -> None:
        self.spans: list[Span] = []
        ticks = count(100)
        self.tracer = Tracer(self.spans.append, share, lambda: next(ticks))


def test_a_span_inside_another_is_its_child() -> None:
    told = Told()
    with within(at(TRACE)), told.tracer.span("fold", TRACE, contribution="one") as about:
        with told.tracer.span("commit", TRACE):
            inside = here()
        about["outcome"] = "folded"
    inner, outer = told.spans
    assert (outer.name, outer.parent, outer.attributes) == ("fold", None, {"contribution": "one", "outcome": "folded"})
    assert (inner.name, inner.parent, inner.place) == ("commit", outer.place, inside)
    assert (outer.begun, inner.begun, inner.ended, outer.ended) == (100, 101, 102, 103)
    assert outer.place.trace_id == inner.place.trace_id == TRACE and outer.place.span_id != inner.place.span_id


def test_a_span_of_another_trace_is_no_child_but_may_be_linked() -> None:
    told = Told()
    with told.tracer.span("fold", TRACE), told.tracer.span("push", OTHER, links=(at(TRACE), at(OTHER))):
        place = here()
    assert told.spans[0].parent is None and told.spans[0].links == (at(TRACE),)
    assert place is not None and place.links == (TRACE,)


def test_a_caller_elsewhere_can_be_the_parent() -> None:
    told, calling = Told(), Place(TRACE, "c" * 16, sampled=True)
    with told.tracer.span("intake", TRACE, parent=calling):
        pass
    assert told.spans[0].parent == calling


def test_a_failure_passes_and_is_told() -> None:
    told = Told()
    with pytest.raises(ValueError, match="no"), told.tracer.span("fold", TRACE):
        raise ValueError("no" * 1000)
    assert told.spans[0].fault.startswith("ValueError: nono") and len(told.spans[0].fault) == 500
    assert here() is None


def test_what_is_not_sampled_gives_log_lines_a_place_all_the_same() -> None:
    told = Told(share=0.0)
    for tracer in (told.tracer, SILENT):
        with tracer.span("fold", TRACE):
            place = here()
            assert place is not None and place.trace_id == TRACE and not place.sampled
    assert told.spans == []


def test_work_that_is_over_can_be_recorded() -> None:
    told = Told()
    with told.tracer.span("round", TRACE):
        whole = told.tracer.record("read", TRACE, 7, 5, links=[at(OTHER)] * 100, busy_seconds=1.5)
    read, around = told.spans
    assert (read.begun, read.ended, read.parent, read.place) == (7, 7, around.place, whole)
    assert len(read.links) == MOST_LINKS and read.attributes == {"busy_seconds": 1.5}
