"""A collector that is slow, dead or broken costs spans, and nothing else."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence

from mergenode.adapters.spans.queue import BATCH, DROPPED, EXPORTED, FAILED, SpanQueue
from mergenode.tracing.context import Place
from mergenode.tracing.spans import Span


def span(number: int) -> Span:
    return Span(name=f"s{number}", place=Place("a" * 32, f"{number + 1:016x}", True), parent=None, begun=1, ended=2)


class Collector:
    """``open`` lets calls return; ``taken`` has every batch."""

    def __init__(self) -> None:
        self.open, self.called = threading.Event(), threading.Event()
        self.taken: list[str] = []
        self.counts: Counter[str] = Counter()
        self.told: list[str] = []
        self.answer: bool | Exception = True

    def export(self, spans: Sequence[Span]) -> bool:
        self.called.set()
        assert self.open.wait(60)
        if isinstance(self.answer, Exception):
            raise self.answer
        self.taken += [each.name for each in spans]
        return self.answer

    def queue(self, capacity: int = 10) -> SpanQueue:
        def counted(outcome: str, spans: int) -> None:
            self.counts[outcome] += spans

        return SpanQueue(self.export, counted, self.told.append, capacity=capacity, every_seconds=0.01)


def test_everything_arrives_in_its_order_and_the_last_at_the_end() -> None:
    collector = Collector()
    collector.open.set()
    queue = collector.queue(capacity=10_000)
    for number in range(2 * BATCH + 3):
        queue.put(span(number))
    assert queue.close(60)
    assert collector.taken == [f"s{number}" for number in range(2 * BATCH + 3)]
    assert collector.counts == {EXPORTED: 2 * BATCH + 3} and collector.told == []


def test_a_collector_that_hangs_costs_spans_and_holds_nobody_up() -> None:
    collector = Collector()
    queue = collector.queue(capacity=10)
    queue.put(span(0))
    assert collector.called.wait(60)  # one is on its way, and stays there
    for number in range(1, 26):
        queue.put(span(number))
    assert collector.counts == {DROPPED: 15}
    assert not queue.close(0.0)
    assert collector.counts == {DROPPED: 25}
    queue.put(span(99))
    assert collector.counts == {DROPPED: 26}
    collector.open.set()


def test_what_a_broken_collector_does_is_counted_and_told() -> None:
    for answer in (False, ValueError("broken")):
        collector = Collector()
        collector.answer = answer
        collector.open.set()
        queue = collector.queue()
        queue.put(span(0))
        assert queue.close(60)
        assert collector.counts == {FAILED: 1}
        assert len(collector.told) == 1 and collector.told[0].startswith("spans do not reach their collector: ")
