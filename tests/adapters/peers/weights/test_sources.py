"""Whom to ask: who rests, who refused, who lied."""

from __future__ import annotations

import math
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.adapters.peers.weights.sources import LONGEST_RETRY_AFTER, Patience, Source, SourceBook
from mergenode.wire.blocks import Root
from tests.support.clock import FakeClock

ROOT, OTHER = Root(bytes(32)), Root(b"\1" * 32)
A, B = Source("a", "a:1", UUID(int=1)), Source("b", "b:1", UUID(int=2))


def book(clock: FakeClock, random: float = 1.0) -> SourceBook:
    return SourceBook(clock.monotonic, lambda: random, Patience())


def test_the_first_is_asked_until_it_fails_then_the_next() -> None:
    clock = FakeClock()
    sources = book(clock)
    assert sources.choose(ROOT, [A, B]) == (A, 0.0)
    assert sources.failed(A) == 1.0 and sources.choose(ROOT, [A, B]) == (B, 0.0)
    sources.failed(B)
    assert sources.choose(ROOT, [A, B]) == (None, 1.0) and sources.open_breakers() == 2
    clock.advance(1.0)
    assert sources.choose(ROOT, [A, B])[0] is A
    sources.worked(A)
    sources.failed(A)
    assert sources.choose(ROOT, [A]) == (None, 1.0), "what worked starts anew"


def test_rests_double_to_a_minute() -> None:
    sources = book(FakeClock())
    assert [sources.failed(A) for _ in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


@settings(deadline=None)
@given(st.floats(0, 1), st.integers(1, 10_000))
def test_jitter_is_full_and_bounded(random: float, failures: int) -> None:
    patience = Patience()
    assert 0 <= random * patience.pause(failures) <= patience.longest_pause


def test_a_node_rests_as_long_as_it_says_within_reason() -> None:
    sources = book(FakeClock())
    assert sources.failed(A, 0.5) == 0.5
    assert sources.failed(A, 1e12) == LONGEST_RETRY_AFTER


def test_who_refused_is_asked_again_later_and_who_lied_is_not() -> None:
    sources = book(FakeClock())
    sources.refused(ROOT, A)
    assert not sources.strike(ROOT, B) and sources.strike(ROOT, B)
    assert sources.choose(ROOT, [A, B]) == (None, math.inf)
    assert sources.choose(OTHER, [B])[0] is B, "only for that root"
    sources.forgive(ROOT)
    assert sources.choose(ROOT, [A, B])[0] is A and sources.choose(ROOT, [B])[0] is None
    sources.keep([OTHER])
    assert sources.choose(ROOT, [B])[0] is B, "forgotten with its root"


def test_alternatives_are_asked_first() -> None:
    assert book(FakeClock()).choose(ROOT, [A, B], [UUID(int=2).bytes])[0] is B
