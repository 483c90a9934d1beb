"""What an observer of spans tells: how long an entry took to settle, and the phases of a round."""

from __future__ import annotations

from itertools import count

from mergenode.adapters.observers.spans import MOST_WATCHED, SpanObserver
from mergenode.ledger.traces import trace_of
from mergenode.ports.observer import Progress
from mergenode.tracing.ids import weights_trace
from mergenode.tracing.spans import Span, Tracer
from mergenode.types import Listing, Unsettled
from tests.support import facts


def observed() -> tuple[SpanObserver, list[Span]]:
    spans, ticks = list[Span](), count(1)
    return SpanObserver(Tracer(spans.append, 1.0, lambda: next(ticks) * 1_000_000_000)), spans


def unsettled(*names: str) -> Listing:
    return Listing(unsettled=tuple(Unsettled("inbox", name, "still written") for name in names))


def test_settling_begins_with_the_first_sight() -> None:
    observer, spans = observed()
    observer.listed("inbox", unsettled("m1", "m2"), 0)
    observer.listed("inbox", unsettled("m1"), 0)  # m2 went away
    observer.fact(facts.discovered(1))
    observer.listed("inbox", unsettled("m2"), 0)
    observer.fact(facts.discovered(2))
    first, second = spans
    assert (first.name, first.place.trace_id) == ("settle", trace_of(facts.discovered(1)))
    assert (first.ended - first.begun, second.ended - second.begun) == (2 * 10**9, 10**9)


def test_of_entries_without_end_it_remembers_only_some() -> None:
    observer, spans = observed()
    observer.listed("inbox", unsettled(*(f"x{number}" for number in range(2 * MOST_WATCHED)), "m1"), 0)
    observer.fact(facts.discovered(1))
    assert spans[0].begun == spans[0].ended


def test_a_round_has_its_phases_one_after_the_other() -> None:
    observer, spans = observed()
    parents = ({"node": "b" * 32, "root": "ab" * 32, "weight": 0.5},)
    fact = facts.mixed(1, root="cd" * 32, parents=parents, seconds={"train": 2.0, "mix": 1.0})
    observer.fact(fact)
    whole, train, mix = spans
    assert whole.place.trace_id == weights_trace("cd" * 32)
    assert [link.trace_id for link in whole.links] == [weights_trace("ab" * 32)]
    assert (train.name, mix.name) == ("round train", "round mix") and train.parent == mix.parent == whole.place
    assert whole.begun == train.begun and train.ended == mix.begun and mix.ended == whole.ended
    assert whole.ended - whole.begun == 3 * 10**9


def test_nothing_else_is_a_span() -> None:
    observer, spans = observed()
    observer.progress(Progress("fold", "m1", 0, 1, 0, 1))
    observer.listing_failed("inbox", "away")
    observer.retrying("m1", "vanished", "gone", 1.0)
    observer.heartbeat()
    observer.sizes(statistics_bytes=1, published_bytes=1, disk_free_bytes=1)
    observer.message("info", "hello")
    observer.fact(facts.published(1))
    assert spans == []
